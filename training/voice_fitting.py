"""Train the voice network on a manifest of recordings, calibrate it, and write models/voice.h5 and models/voice.onnx.

    python scripts/train_audio.py --manifest SPEECH.csv
    python scripts/train_audio.py --manifest SPEECH.csv --versions 8        # more deliveries of each recording

The manifest has the columns path, label (1 = fake), split, source, generator and speaker; only its `train` recordings
are looked at. What the network's fixed filters find in every recording, in its vocoder copies and in their deliveries
is measured once and kept in the run's folder, so that a run that was stopped goes on where it was when the same command
is given again; the weights that vote are then a logistic regression, found in seconds.

So one network can be afforded for every fold. The speakers are dealt into five parts. For each part and each generator
that has fakes in it, a network learns from the other parts without that generator, and is then asked about the
generator's fakes in the part and all reals in it: no speaker and no generator is on both sides. The same is done with
whole families of generators, which is harder; to these answers line and thresholds are fitted, since to the network
that ships the next voice and the next generator will be as new. scripts/evaluate_audio.py makes figures of the answers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import inspect
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.media.videos import read_audio
from detector.models.calibration import Calibration
from detector.models.spec import ModelSpec, file_sha256
from detector.results import DetectorError
from detector.voices.detect import VOICE_MODEL_FILES, VOICE_NETWORK
from detector.voices.features import (
    BANDS,
    FFT_LENGTH,
    VOICE_INPUT,
    cut_windows,
    has_sound,
    log_spectrogram,
    normalize_level,
    speech_exclusion_reasons,
)
from training.arguments import at_least, proportion_argument
from training.calibrating import MAX_FALSE_ALARMS, MAX_MISSES, UNCALIBRATED, save_model
from training.exporting import can_export, export
from training.manifests import CACHE, ROOT, Example, replace_file
from training.networks import VOICE_EPSILON, VOICE_GROUPS, VOICE_LIMIT, build_voice_network, set_linear_weights
from training.runs import open_run
from training.thresholds import choose_thresholds, fit_line
from training.vocoders import RECIPE, VOCODERS, WAVEFORM_DEGRADATIONS, degrade_waveform

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SPEECH_MANIFEST_COLUMNS = ("path", "label", "split", "source", "generator", "speaker")
PREDICTION_COLUMNS = (
    "recording", "label", "source", "generator", "group", "held", "left_out", "part", "delivery", "logit", "reasons",
)  # fmt: skip
FAMILIES = {  # what occurs in the name of a generator, in any case, the first that does: by what makes the waveform
    "wavenet": "WaveNet",
    "waveglow": "WaveGlow",
    "wg": "WaveGlow",
    "styletts": "StyleTTS 2",
    "hifigan": "HiFi-GAN",
    "hgan": "HiFi-GAN",
    "jets": "HiFi-GAN",
    "dddm": "HiFi-GAN",
    "vits": "VITS",
    "yourtts": "VITS",
    "naturalspeech": "VITS",
}
GENERATOR, FAMILY = "generator", "family"  # what a fold's network has not learned from
PARTS = 5  # of the speakers
COPIES = 0.05  # share of the vocoder copies among what counts as fake
COPY_SHARES = {"world": 0.2, "griffin_lim": 0.8}  # among the copies
DECAY = 0.02  # of the weights; with a few hundred voices to learn from it wants much
TOP_HZ = 7000  # bands above do not vote: they tell collections apart by their resampling more than fakes from reals
STORED_VOICE = "stored"
CHECK_SECONDS, TOLERANCE = 4, 1e-4  # of noise on which the engines' logits may differ by so much


@dataclass(frozen=True)
class VoiceTrainingSettings:
    """What a run is asked for; with the constants above it decides what is computed.

    `filters_sha256` is of what turns sound into statistics, so that kept ones are never taken for those of other code.
    """

    manifest: str
    manifest_sha256: str
    filters_sha256: str
    versions: int
    copies: float = COPIES
    decay: float = DECAY
    parts: int = PARTS
    top_hz: int = TOP_HZ


@dataclass(frozen=True)
class Fold:
    """What one network has not learned from and is then asked about: a generator or a family, in a part of the voices.

    Attributes:
        held: GENERATOR or FAMILY.
        name: of the generator or family.
        part: number of the part.
    """

    held: str
    name: str
    part: int


@dataclass(frozen=True, eq=False)
class LinearWeights:
    """The part of the network that is learned; see `set_votes`."""

    mean: np.ndarray
    variance: np.ndarray
    weights: np.ndarray
    bias: float

    def logits(self, statistics: np.ndarray) -> np.ndarray:
        """Return the logits (N,) the network has for windows of these statistics (N, S)."""
        return _standard(statistics, self.mean, self.variance) @ self.weights + self.bias


def read_speech(path: Path) -> list[Example]:
    """Read a manifest of recordings; an example's group is its speaker.

    Of a speaker that is only known by the collection ("vctk?") every speaker of that collection is taken for one.

    Raises:
        SystemExit: it is missing, a column or a value is, or a label is not 0 or 1; with a sentence.
    """
    if not path.is_file():
        raise SystemExit(f"There is no manifest {path}.")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(SPEECH_MANIFEST_COLUMNS) <= set(rows[0]):
        raise SystemExit(
            f"The manifest {path} is empty or lacks one of the columns {', '.join(SPEECH_MANIFEST_COLUMNS)}."
        )
    if any(not row[name] for row in rows for name in ("path", "speaker", "generator", "split")):
        raise SystemExit(f"Every row of the manifest {path} needs a path, a speaker, a generator and a split.")
    if wrong := {row["label"] or "nothing" for row in rows} - {"0", "1"}:
        raise SystemExit(f"Labels are 0 (real) or 1 (fake); the manifest {path} has {', '.join(sorted(wrong))}.")
    unknown = tuple(row["speaker"].rstrip("?") for row in rows if row["speaker"].endswith("?"))

    def group(speaker: str) -> str:
        return next((collection for collection in unknown if speaker.startswith(collection)), speaker)

    return [
        Example(
            path.parent / row["path"],
            int(row["label"]),
            row["source"],
            row["generator"],
            group(row["speaker"]),
            row["split"],
        )
        for row in rows
    ]


def family_of(generator: str) -> str:
    """Return what a generator is counted as by `FAMILIES`; one that is not listed is a family of its own."""
    return next((family for part, family in FAMILIES.items() if part in generator.lower()), generator)


def part_speakers(examples: list[Example], parts: int) -> dict[str, int]:
    """Return the part, from 0, of each speaker, so that all have about as many fakes and as many reals."""
    counts: dict[str, list[int]] = {example.group: [0, 0] for example in examples}
    for example in examples:
        counts[example.group][example.label] += 1
    dealt, sums = {}, np.zeros((parts, 2))
    for group in sorted(counts, key=lambda group: (-max(counts[group]), group)):
        # Where fakes decide, since a few speakers have most of them; then reals, then both.
        kind = 1 if counts[group][1] else 0
        dealt[group] = min(range(parts), key=lambda part: (sums[part, kind], sums[part].sum(), part))
        sums[dealt[group]] += counts[group]
    return dealt


def list_folds(examples: list[Example], parts: int) -> list[Fold]:
    """Return the folds: every generator and every family, in every part in which it has fakes."""
    dealt = part_speakers(examples, parts)
    fakes = [(example.generator, dealt[example.group]) for example in examples if example.label]
    folds = {Fold(GENERATOR, name, part) for name, part in fakes}
    folds |= {Fold(FAMILY, family_of(name), part) for name, part in fakes}
    return sorted(folds, key=lambda fold: (fold.held, fold.name, fold.part))


def cut_fold(examples: list[Example], fold: Fold, parts: int) -> tuple[list[int], list[int]]:
    """Return the indices of what the fold's network learns from and of what it is asked about."""
    dealt = part_speakers(examples, parts)
    learned, asked = [], []
    for index, example in enumerate(examples):
        name = example.generator if fold.held == GENERATOR else family_of(example.generator)
        is_left_out = example.label == 1 and name == fold.name
        if dealt[example.group] != fold.part and not is_left_out:
            learned.append(index)
        if dealt[example.group] == fold.part and (is_left_out or not example.label):
            asked.append(index)
    return learned, asked


class Sounds:
    """Recordings, their copies and their deliveries, kept on disk: many runs ask for the same."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder or CACHE / "voices"
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, example: Example, copy: str = "", delivery: str | int = STORED_VOICE) -> np.ndarray:
        """Return a recording as it arrives.

        Args:
            example: the recording.
            copy: a name of VOCODERS, or nothing for the recording itself.
            delivery: a name of DELIVERIES, or a number: the same number damages a recording and its copies alike.

        Returns:
            (T,) int16 mono 16 kHz, as long as the recording, but for what a coding drops at the end.
        """
        if not copy and delivery == STORED_VOICE:
            return _to_int16(read_audio(example.path))
        digest = _digest(example.path)
        kept = self._folder / f"{RECIPE}-{digest[:16]}-{copy or 'itself'}-{delivery}.npy"
        with suppress(FileNotFoundError):
            return np.load(kept)
        seed = int(digest[:8], 16)
        if delivery == STORED_VOICE:
            sound = VOCODERS[copy](to_float(self.read(example)), np.random.default_rng([seed, 0]))
        elif isinstance(delivery, str):
            sound = WAVEFORM_DEGRADATIONS[delivery](to_float(self.read(example, copy)))
        else:
            sound = degrade_waveform(to_float(self.read(example, copy)), np.random.default_rng([seed, 1, delivery]))
        replace_file(kept, lambda part: np.save(part, _to_int16(sound)))
        return _to_int16(sound)


@cache
def _digest(path: Path) -> str:
    return file_sha256(path)


def _to_int16(sound: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def to_float(sound: np.ndarray) -> np.ndarray:
    """Return what `Sounds.read` gives as float32 in [-1, 1]."""
    return sound.astype(np.float32) / 32767


# Of a recording, by copy and delivery: the statistics of its windows (N, S), no rows where it is shorter than a frame,
# and why it cannot be judged.
Heard = dict[tuple[str, str], tuple[np.ndarray, str]]


def measure(
    examples: list[Example], sounds: Sounds, settings: VoiceTrainingSettings, run: Path, threads: int
) -> list[Heard]:
    """Return what the network's filters find in every recording, in what is made of it, and in their deliveries."""
    import keras

    network = build_voice_network(BANDS)
    network = keras.Model(network.input, network.get_layer("statistics").output)
    folder = run / "statistics"
    folder.mkdir(exist_ok=True)

    numbers = [STORED_VOICE, *range(settings.versions)]
    asked = [("", delivery) for delivery in dict.fromkeys([*numbers, *WAVEFORM_DEGRADATIONS])]
    copies = [(copy, delivery) for copy in VOCODERS for delivery in numbers]

    def make(example: Example) -> Path:
        """Have the sounds of a recording made, and return where their statistics are kept."""
        kept = folder / f"{_digest(example.path)[:16]}.npz"
        if not kept.is_file():
            for copy, delivery in ways_of(example):
                sounds.read(example, copy, delivery)
        return kept

    def ways_of(example: Example) -> list[tuple[str, str | int]]:
        return asked if example.label else asked + copies

    def hear(sound: np.ndarray) -> tuple[np.ndarray, str]:
        waveform = to_float(sound)
        if len(waveform) < FFT_LENGTH:
            return np.zeros((0, network.output_shape[1]), np.float32), ""
        windows, _ = cut_windows(normalize_level(waveform))
        spectrograms = log_spectrogram(windows[has_sound(windows)])[..., None]
        return np.asarray(network(spectrograms, training=False)), ";".join(speech_exclusion_reasons(waveform))

    found = []
    with ThreadPoolExecutor(threads) as pool:
        made = tqdm(pool.map(make, examples), total=len(examples), desc="measuring", unit="recording")
        for example, kept in zip(examples, made, strict=True):
            if not kept.is_file():
                columns = {}
                for copy, delivery in ways_of(example):
                    statistics, reasons = hear(sounds.read(example, copy, delivery))
                    columns[f"{copy}/{delivery}/statistics"] = statistics
                    columns[f"{copy}/{delivery}/reasons"] = np.array(reasons)
                replace_file(kept, lambda part, columns=columns: np.savez(part, **columns))
            with np.load(kept) as columns:
                ways = [tuple(name.split("/")[:2]) for name in columns if name.endswith("/statistics")]
                found.append(
                    {
                        way: (columns["/".join([*way, "statistics"])], str(columns["/".join([*way, "reasons"])]))
                        for way in ways
                    }
                )
    return found


def learn(examples: list[Example], heard: list[Heard], settings: VoiceTrainingSettings) -> LinearWeights:
    """Find the votes that tell the fakes among these recordings from the reals: logistic regression over windows.

    Real and fake weigh the same. Within each a recording weighs by the root of how many there are of its source and
    generator, and of its speaker, so that a voice with many does not drown the others. A share of the fakes are vocoder
    copies of the reals. A recording's weight is shared by its deliveries and their windows.
    """
    from sklearn.linear_model import LogisticRegression

    of_kind = Counter((e.source, e.generator) for e in examples)
    of_speaker = Counter((e.group, e.label) for e in examples)
    statistics, labels, weights, kinds = [], [], [], []
    for example, ways in zip(examples, heard, strict=True):
        weight = (of_kind[example.source, example.generator] * of_speaker[example.group, example.label]) ** -0.5
        for (copy, delivery), (windows, _) in ways.items():
            if (delivery == STORED_VOICE or delivery.isdecimal()) and len(windows):
                statistics.append(windows)
                labels += [1 if copy else example.label] * len(windows)
                kinds += [copy or ("fake" if example.label else "real")] * len(windows)
                weights += [weight / len(windows)] * len(windows)
    shares = {"real": 1.0, "fake": 1 - settings.copies}
    shares |= {copy: settings.copies * part for copy, part in COPY_SHARES.items()}
    statistics, weights, kinds = np.concatenate(statistics), np.array(weights), np.array(kinds)
    for kind, part in shares.items():
        weights[kinds == kind] *= part / 2 / max(weights[kinds == kind].sum(), 1e-9)

    mean = np.average(statistics, axis=0, weights=weights)
    variance = np.average(np.square(statistics - mean), axis=0, weights=weights)
    # The weights add up to 1, so that the decay means the same however many windows there are.
    regression = LogisticRegression(C=1 / settings.decay, max_iter=1000)
    heeded = _is_active(statistics.shape[1])
    regression.fit(_standard(statistics, mean, variance)[:, heeded], labels, sample_weight=weights)
    votes = np.zeros(len(mean))
    votes[heeded] = regression.coef_[0]
    return LinearWeights(mean, variance, votes, float(regression.intercept_[0]))


def _is_active(size: int) -> np.ndarray:
    """Return which of the statistics vote, (size,): in a row lie those of each group of bands, then the harmonics."""
    each = size // VOICE_GROUPS - 1  # a group has so many, and one harmonic
    group = np.arange(size) // each
    top = np.ceil(TOP_HZ / (VOICE_INPUT.sample_rate_hz / 2) * VOICE_GROUPS)
    return (group < top) | (group >= VOICE_GROUPS)


def _standard(statistics: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.clip((statistics - mean) / np.sqrt(variance + VOICE_EPSILON), -VOICE_LIMIT, VOICE_LIMIT)


def cross_validate(
    examples: list[Example], heard: list[Heard], settings: VoiceTrainingSettings
) -> list[dict[str, Any]]:
    """Learn each fold's votes and ask them about what they have not learned from, in every delivery.

    Returns:
        Rows of ANSWER_COLUMNS, the logit being the mean over the windows as in `VoiceDetector`.
    """
    rows = []
    for fold in tqdm(list_folds(examples, settings.parts), desc="folds", unit="network"):
        learned, asked = cut_fold(examples, fold, settings.parts)
        if not {examples[i].label for i in learned} == {0, 1} == {examples[i].label for i in asked}:
            continue
        votes = learn([examples[i] for i in learned], [heard[i] for i in learned], settings)
        for index in asked:
            example = examples[index]
            for delivery in WAVEFORM_DEGRADATIONS:
                windows, reasons = heard[index]["", delivery]
                if len(windows):
                    logit = round(float(votes.logits(windows).mean()), 5)
                    row = [index, example.label, example.source, example.generator, example.group]
                    row += [fold.held, fold.name, fold.part, delivery, logit, reasons]
                    rows.append(dict(zip(PREDICTION_COLUMNS, row, strict=True)))
    return rows


def write_fold_predictions(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows of ANSWER_COLUMNS as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, PREDICTION_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_fold_predictions(path: Path) -> list[dict[str, Any]]:
    """Read what `write_answers` wrote.

    Raises:
        SystemExit: there is no such file.
    """
    if not path.is_file():
        raise SystemExit(f"There are no answers of folds at {path}; make them with: python scripts/train_audio.py")
    kinds = {"recording": int, "label": int, "part": int, "logit": float}
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: kinds.get(name, str)(text) for name, text in row.items()} for row in csv.DictReader(file)]


def fit_calibration(rows: list[dict[str, Any]]) -> Calibration:
    """Fit line and thresholds to the answers about recordings that can be judged, both kinds weighing the same.

    The thresholds keep the stated error rates in the worst delivery.

    Raises:
        SystemExit: in some delivery there are not both kinds.
    """
    rows = [row for row in rows if not row["reasons"]]
    labels, logits, delivery = (np.array([row[name] for row in rows]) for name in ("label", "logit", "delivery"))
    if any(set(labels[delivery == name]) != {0, 1} for name in WAVEFORM_DEGRADATIONS):
        raise SystemExit(
            "The voice network cannot be calibrated: real and fake recordings are needed in every delivery."
        )
    weights = (
        np.where(labels == 1, 1 / labels.sum(), 1 / (1 - labels).sum()) * len(rows) / len(WAVEFORM_DEGRADATIONS) / 2
    )
    slope, intercept = fit_line(logits, labels, weights)
    probabilities = replace(UNCALIBRATED, slope=slope, intercept=intercept).probability(logits)
    tiers = [(probabilities[delivery == name], labels[delivery == name]) for name in WAVEFORM_DEGRADATIONS]
    low, high = choose_thresholds(tiers, max_false_alarms=MAX_FALSE_ALARMS, max_misses=MAX_MISSES)
    return Calibration(slope, intercept, low, high)


def export_voice(source: Path, target: Path) -> float:
    """Write the .onnx file of a voice model; the engines are compared on noise.

    Returns:
        The largest difference of logits between the two engines.

    Raises:
        ModelError: the source has no spec, or the engines differ by more than TOLERANCE.
    """
    noise = np.random.default_rng(0).standard_normal(CHECK_SECONDS * VOICE_INPUT.sample_rate_hz).astype(np.float32)
    windows, _ = cut_windows(normalize_level(noise))
    return export(source, target, batch=log_spectrogram(windows)[..., None], tolerance=TOLERANCE)


def filters_sha256() -> str:
    """Return one hash over what turns sound into statistics: windows, spectrogram and the network's fixed layers."""
    parts = [json.dumps(asdict(VOICE_INPUT), sort_keys=True), str(RECIPE), inspect.getsource(build_voice_network)]
    digest, network = hashlib.sha256("\n".join(parts).encode()), build_voice_network(BANDS)
    for name in ("filters", "waves"):
        digest.update(network.get_layer(name).get_weights()[0].tobytes())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    """Measure, learn, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--versions", type=at_least(0), default=4, help="damaged deliveries of each recording")
    parser.add_argument(
        "--copies", type=proportion_argument, default=COPIES, help="share of vocoder copies among the fakes"
    )
    parser.add_argument("--decay", type=float, default=DECAY, help="of the weights that vote")
    parser.add_argument(
        "--threads", type=at_least(1), default=os.cpu_count(), help="that make the sounds (default: all cores)"
    )
    parser.add_argument("--run", type=Path, help="folder of the run (default: one of these settings' own in runs)")
    parser.add_argument("--out", type=Path, default=VOICE_MODEL_FILES["keras"])
    options = parser.parse_args(argv)
    if options.decay <= 0:
        parser.error("--decay must be above 0")
    examples = [example for example in read_speech(options.manifest) if example.split == "train"]
    if {example.label for example in examples} != {0, 1}:
        raise SystemExit(f"The manifest {options.manifest} needs real and fake recordings in its split train.")
    settings = VoiceTrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=file_sha256(options.manifest),
        filters_sha256=filters_sha256(),
        versions=options.versions,
        copies=options.copies,
        decay=options.decay,
    )
    digest = hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()
    run = options.run or ROOT / "runs" / f"{VOICE_NETWORK}-{digest[:8]}"
    open_run(run, settings)

    try:
        heard = measure(examples, Sounds(), settings, run, options.threads)
        answers = cross_validate(examples, heard, settings)
        replace_file(run / "fold_predictions.csv", lambda part: write_fold_predictions(answers, part))
        calibration = fit_calibration([row for row in answers if row["held"] == FAMILY])
        votes = learn(examples, heard, settings)
        network = build_voice_network(BANDS)
        set_linear_weights(network, votes.mean, votes.variance, votes.weights, votes.bias)
        sources = Counter(f"{e.source} {'fake' if e.label else 'real'}" for e in examples)
        account = {
            "sources": dict(sorted(sources.items())),
            "recordings": len(examples),
            "speakers": len({e.group for e in examples}),
            "date": date.today().isoformat(),
            "settings": {**asdict(settings), "manifest": options.manifest.name},
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        # A voice has no crop; the size is that of a spectrogram's one fixed side.
        save_model(options.out, network, ModelSpec(VOICE_NETWORK, VOICE_INPUT, calibration, account))
        print(
            f"P(fake) = sigmoid({calibration.slope:.4f} * logit {calibration.intercept:+.4f}); "
            f"real up to {calibration.threshold_real:.4f}, deepfake from {calibration.threshold_fake:.4f}"
        )
        if can_export():
            difference = export_voice(options.out, options.out.with_suffix(".onnx"))
            print(f"wrote {options.out} and {options.out.with_suffix('.onnx').name}; logits differ by {difference:.2g}")
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"next: python scripts/evaluate_audio.py --run {run} --val {options.manifest}")


if __name__ == "__main__":
    main()
