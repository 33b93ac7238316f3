"""Variants of training recordings, and the statistics that the voice network's fixed filters measure in them.

Both are cached. Waveforms go into the project's cache, which all runs share; statistics go into the folder of a run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from detector.media.videos import read_audio
from detector.models.spec import file_sha256
from detector.voices import quality
from detector.voices.features import (
    FFT_LENGTH,
    PAUSE_DB,
    ROWS,
    SOUNDING_DB,
    VOICE_INPUT,
    cut_windows,
    has_sound,
    network_input,
    normalize_level,
)
from detector.voices.quality import speech_exclusion_reasons
from training.exporting import OPSET, can_export
from training.manifests import CACHE, Example
from training.runs import replace_file
from training.vocoders import RECIPE, VOCODERS, WAVEFORM_DEGRADATIONS, degrade_waveform
from training.voice_networks import build_voice_network, describe_layers

if TYPE_CHECKING:
    import keras

STORED_VOICE = "stored"  # the degradation of a recording that has none


@dataclass(frozen=True)
class Variant:
    """A recording, or its copy through a vocoder, after a degradation.

    Attributes:
        vocoder: a name of VOCODERS; "" for the recording itself.
        degradation: STORED_VOICE, a name of WAVEFORM_DEGRADATIONS, or the number of a random degradation as digits.
            The same number degrades a recording and its copies alike.
    """

    vocoder: str = ""
    degradation: str = STORED_VOICE

    @property
    def is_for_training(self) -> bool:
        """Whether networks are trained on the variant; the others only test them."""
        return self.degradation == STORED_VOICE or self.degradation.isdecimal()


@dataclass(frozen=True, eq=False)
class WindowFeatures:
    """The features of one variant of a recording.

    Attributes:
        statistics: (N, S) float32, of each window with sound; no rows where the recording is shorter than FFT_LENGTH.
        reasons: the quality gate's reasons against a verdict, joined by semicolons; "" for none.
    """

    statistics: np.ndarray
    reasons: str


RecordingFeatures = dict[Variant, WindowFeatures]


class VariantCache:
    """Variants of recordings, kept on disk because many runs need the same ones."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder or CACHE / "voices"
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, example: Example, variant: Variant) -> np.ndarray:
        """Return a variant of a recording.

        Returns:
            (T,) int16 mono 16 kHz, as long as the recording unless a codec drops its end.
        """
        if variant == Variant():
            return _encode_int16(read_audio(example.path))
        digest = _file_digest(example.path)
        path = self._folder / f"{RECIPE}-{digest[:16]}-{variant.vocoder or 'itself'}-{variant.degradation}.npy"
        with suppress(FileNotFoundError):
            cached: np.ndarray = np.load(path)
            return cached
        encoded = _encode_int16(self._create(example, variant, int(digest[:8], 16)))
        replace_file(path, lambda part: np.save(part, encoded))
        return encoded

    def _create(self, example: Example, variant: Variant, seed: int) -> np.ndarray:
        if variant.degradation == STORED_VOICE:
            original = decode_int16(self.read(example, Variant()))
            return VOCODERS[variant.vocoder](original, np.random.default_rng([seed, 0]))
        stored = decode_int16(self.read(example, Variant(variant.vocoder)))
        if variant.degradation.isdecimal():
            return degrade_waveform(stored, np.random.default_rng([seed, 1, int(variant.degradation)]))
        degrade = WAVEFORM_DEGRADATIONS[variant.degradation]
        return stored if degrade is None else degrade(stored)


def _encode_int16(waveform: np.ndarray) -> np.ndarray:
    encoded: np.ndarray = np.rint(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    return encoded


def decode_int16(encoded: np.ndarray) -> np.ndarray:
    """Return a waveform of `VariantCache.read` as float32 in [-1, 1]."""
    return encoded.astype(np.float32) / 32767


@cache
def _file_digest(path: Path) -> str:
    return file_sha256(path)


@dataclass(frozen=True)
class VariantChoice:
    """Which variants of each recording a run needs.

    Attributes:
        versions: random degradations.
        tests: degradations of WAVEFORM_DEGRADATIONS beside the stored recording, chosen by the recording's content, so
            that all are about equally frequent; None takes all.
        copies: whether real recordings have vocoder copies, each with the random degradations.
    """

    versions: int
    tests: int | None = None
    copies: bool = True

    def variants(self, example: Example) -> list[Variant]:
        """Return the variants of a recording."""
        training = [STORED_VOICE, *map(str, range(self.versions))]
        named = [name for name in WAVEFORM_DEGRADATIONS if name != STORED_VOICE]
        if self.tests is not None and named:
            first = int(_file_digest(example.path)[:8], 16) % len(named)
            named = [*named, *named][first : first + min(self.tests, len(named))]
        variants = [Variant("", degradation) for degradation in [*training, *named]]
        if self.copies and not example.label:
            variants += [Variant(vocoder, degradation) for vocoder in VOCODERS for degradation in training]
        return variants


def compute_features(
    examples: Sequence[Example], cache: VariantCache, choice: VariantChoice, *, run: Path, threads: int
) -> list[RecordingFeatures]:
    """Measure every variant of every recording with the network's filters, or read what the run has measured before.

    Args:
        examples: the recordings.
        cache: source of the variants.
        choice: of the variants.
        run: folder of the run; the statistics are kept in its subfolder "statistics".
        threads: that create variants.
    """
    extract = build_feature_extractor()
    folder = run / "statistics"
    folder.mkdir(exist_ok=True)

    def prepare(example: Example) -> Path:
        """Create the missing variants of a recording and return the path of its statistics."""
        path = folder / f"{_file_digest(example.path)[:16]}.npz"
        if not path.is_file():
            for variant in choice.variants(example):
                cache.read(example, variant)
        return path

    features = []
    with ThreadPoolExecutor(threads) as pool:
        prepared = tqdm(pool.map(prepare, examples), total=len(examples), desc="measuring", unit="recording")
        for example, path in zip(examples, prepared, strict=True):
            if not path.is_file():
                variants = choice.variants(example)
                measured = {variant: extract(decode_int16(cache.read(example, variant))) for variant in variants}
                _write_features(path, measured)
            features.append(_read_features(path))
    return features


def build_feature_extractor() -> Callable[[np.ndarray], WindowFeatures]:
    """Return the function that measures a waveform (T,) float32 mono 16 kHz as the training and the detector do.

    The statistics are computed by the fast engine where the backend can export to it.
    """
    network = _build_statistics_network()
    size = network.output_shape[1]
    compute = _compile_statistics(network) if can_export() else partial(network, training=False)

    def extract(waveform: np.ndarray) -> WindowFeatures:
        if len(waveform) < FFT_LENGTH:
            return WindowFeatures(np.zeros((0, size), np.float32), "")
        normalized = normalize_level(waveform)
        windows, _ = cut_windows(normalized)
        statistics = compute(network_input(windows[has_sound(windows)]))
        reasons = ";".join(speech_exclusion_reasons(waveform, normalized))
        return WindowFeatures(np.asarray(statistics), reasons)

    return extract


def _compile_statistics(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistics network as a function of spectrograms (N, T, ROWS) that ONNX Runtime runs."""
    import onnxruntime

    network(np.zeros((1, 2, ROWS), np.float32), training=False)  # Keras exports only a network that was called once
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.onnx"
        network.export(path, format="onnx", opset_version=OPSET, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def compute(spectrograms: np.ndarray) -> np.ndarray:
        statistics: np.ndarray = session.run(None, {name: spectrograms})[0]
        return statistics

    return compute


def filters_sha256() -> str:
    """Return a hash that changes with every change of how sound becomes features.

    The hash covers the spectrogram's settings, the recipe of the variants, the constants of the quality gate, and the
    layers and fixed weights up to the statistics. Text such as docstrings does not change it.
    """
    network = _build_statistics_network()
    constants = {name: value for name, value in vars(quality).items() if name.isupper()}
    settings = {
        "input": asdict(VOICE_INPUT),
        "recipe": RECIPE,
        "sounding_db": SOUNDING_DB,
        "pause_db": PAUSE_DB,
        "quality": {name: repr(value) for name, value in constants.items()},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(describe_layers(network).encode())
    for weights in network.get_weights():
        digest.update(weights.tobytes())
    return digest.hexdigest()


def _build_statistics_network() -> keras.Model:
    """Return the part of the voice network that is not trained, from spectrograms to statistics (N, S)."""
    import keras

    network = build_voice_network()
    return keras.Model(network.input, network.get_layer("statistics").output)


def _write_features(path: Path, features: RecordingFeatures) -> None:
    columns: dict[str, Any] = {}
    for variant, measured in features.items():
        name = f"{variant.vocoder}/{variant.degradation}"
        columns[f"{name}/statistics"] = measured.statistics
        columns[f"{name}/reasons"] = np.array(measured.reasons)
    replace_file(path, lambda part: np.savez(part, **columns))


def _read_features(path: Path) -> RecordingFeatures:
    features = {}
    with np.load(path) as columns:
        for name in columns:
            vocoder, degradation, column = name.split("/")
            if column == "statistics":
                reasons = str(columns[f"{vocoder}/{degradation}/reasons"])
                features[Variant(vocoder, degradation)] = WindowFeatures(columns[name], reasons)
    return features
