"""Train the voice network on a manifest of recordings, calibrate it, and write models/voice.h5 and models/voice.onnx.

    python scripts/train_audio.py --manifest SPEECH.csv
    python scripts/train_audio.py --manifest SPEECH.csv --steps 2000 --versions 8        # longer, more deliveries

The manifest has the columns path, label (1 = fake), split, source, generator and speaker; only its `train` recordings
are looked at. Before the network that ships, one is trained for each fold, in which a family of generators and half of
the speakers are left out, and is asked about just these. Line and thresholds are fitted to the answers, since to the
network that ships the next voice and the next generator will be as new; scripts/evaluate_audio.py makes figures of the
same answers. A run that was stopped goes on where it was when the same command is given again. KERAS_BACKEND=torch
trains with PyTorch; only TensorFlow writes the models.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from calibrate import UNCALIBRATED, fit, save_model
from export import export
from manifests import CACHE, ROOT, Example, replace_file
from tqdm import tqdm
from train import averaged_weights, dropout_generators, open_run

from detector.audio import AUDIO, SAMPLE_RATE_HZ, WINDOW_S, canonical, log_spectrogram
from detector.engines import FastEngine
from detector.networks import build_voice_network
from detector.results import DetectorError
from detector.spec import ModelSpec, file_sha256
from detector.streams import read_audio
from detector.vocoders import DELIVERIES, RECIPE, VOCODERS, damage
from detector.voice import VOICE_FILES, VoiceDetector

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

COLUMNS = ("path", "label", "split", "source", "generator", "speaker")
FAMILIES = {  # what occurs in the name of a generator, in any case, the first that does: by what makes the waveform
    "wavenet": "WaveNet",
    "waveglow": "WaveGlow",
    "wg": "WaveGlow",
    "styletts": "StyleTTS 2",
    "vits": "VITS",
    "yourtts": "VITS",
    "naturalspeech": "VITS",
    "hifigan": "HiFi-GAN",
    "hgan": "HiFi-GAN",
    "jets": "HiFi-GAN",
    "dddm": "HiFi-GAN",
}
STORED_CHANCE = 0.25  # of a recording as it is stored, without damage
COPY_CHANCES = {"world": 0.2, "griffin_lim": 0.8}  # among the copies
LEARNING_RATE = 2e-3
ROUND_STEPS = 50  # between checkpoints
LOOKAHEAD = 4  # batches made ahead of the network
WINDOW = round(WINDOW_S * SAMPLE_RATE_HZ)  # samples


@dataclass(frozen=True)
class Settings:
    """What a run is asked for; with the constants above it decides what is computed."""

    manifest: str
    manifest_sha256: str
    steps: int
    batch: int
    versions: int
    copies: float
    seed: int
    learning_rate: float = LEARNING_RATE
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    dropout: float = 0.3


@dataclass(frozen=True)
class Fold:
    """What one network is not shown and then asked about: a family of generators, and one half of the speakers."""

    family: str
    half: int

    @property
    def name(self) -> str:
        return f"{self.family} {self.half + 1}"


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
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise SystemExit(f"The manifest {path} is empty or lacks one of the columns {', '.join(COLUMNS)}.")
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


def halve_speakers(examples: list[Example]) -> dict[str, int]:
    """Return the half, 0 or 1, of each speaker, so that both have about as many fakes, and as many reals."""
    counts = {group: [0, 0] for group in sorted({example.group for example in examples})}
    for example in examples:
        counts[example.group][1 - example.label] += 1  # fakes first
    halves, sums = {}, np.zeros((2, 2))
    for group in sorted(counts, key=lambda group: counts[group], reverse=True):
        # Fakes decide, since a few speakers have most of them.
        halves[group] = int(tuple(sums[1]) < tuple(sums[0])) if counts[group][0] else int(sums[1, 1] < sums[0, 1])
        sums[halves[group]] += counts[group]
    return halves


def list_folds(examples: list[Example]) -> list[Fold]:
    """Return a fold for every family and half in which it has fakes and the rest has some to learn from."""
    halves = halve_speakers(examples)
    fakes = {(family_of(e.generator), halves[e.group]) for e in examples if e.label}
    return [Fold(f, h) for f, h in sorted(fakes) if any(family != f and half != h for family, half in fakes)]


def cut_fold(examples: list[Example], fold: Fold) -> tuple[list[Example], list[Example]]:
    """Return what the fold's network learns from and what it is asked about; they share no speaker and no family."""
    halves = halve_speakers(examples)
    fit = [
        e for e in examples if halves[e.group] != fold.half and not (e.label and family_of(e.generator) == fold.family)
    ]
    asked = [
        e for e in examples if halves[e.group] == fold.half and (not e.label or family_of(e.generator) == fold.family)
    ]
    return fit, asked


class Sounds:
    """Recordings, their copies and their deliveries, kept on disk: made once, since making them outlasts a step by far."""

    def __init__(self, folder: Path = CACHE / "voices"):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def read(self, example: Example, copy: str = "", delivery: str | int = "stored") -> np.ndarray:
        """Return a recording as it arrives.

        Args:
            example: the recording.
            copy: a name of VOCODERS, or nothing for the recording itself.
            delivery: a name of DELIVERIES, or a number: the same number damages a recording and its copies alike.

        Returns:
            (T,) int16 mono 16 kHz, as long as the recording, but for what a coding drops at the end.
        """
        if not copy and delivery == "stored":
            return _to_int16(read_audio(example.path))
        digest = _digest(example.path)
        kept = self._folder / f"{RECIPE}-{digest[:16]}-{copy or 'itself'}-{delivery}.npy"
        with suppress(FileNotFoundError, ValueError, EOFError):  # a half-written one is made again
            return np.load(kept)
        seed = int(digest[:8], 16)
        if delivery == "stored":
            sound = VOCODERS[copy](_to_float(self.read(example)), np.random.default_rng([seed, 0]))
        elif isinstance(delivery, str):
            sound = DELIVERIES[delivery](_to_float(self.read(example, copy)))
        else:
            sound = damage(_to_float(self.read(example, copy)), np.random.default_rng([seed, 1, delivery]))
        np.save(kept, _to_int16(sound))
        return _to_int16(sound)


@dataclass(frozen=True)
class View:
    """One place of a batch: a recording or a copy of it, how it arrives, and where it is cut, as a share of its length.

    A real and the copy made of it share all but the copy, so that the vocoder's traces are all that tells them apart.
    """

    index: int
    copy: str
    delivery: str | int
    place: float


class Stream:
    """Training batches, each a function of the settings and its number alone, so that a run can go on anywhere.

    Half of a batch is real, half fake. Within each half a recording weighs by the root of how many there are of its
    source and generator, and of its speaker, so that a voice with many does not drown the others. A share of the fakes
    are vocoder copies of reals of the same batch. Recordings shorter than a window are left out, and none is padded.
    """

    def __init__(self, examples: list[Example], sounds: Sounds, settings: Settings):
        self._sounds, self.settings = sounds, settings
        self.examples = [e for e in examples if len(sounds.read(e)) >= WINDOW]
        self._pools = [self._weighted(label) for label in (0, 1)]

    def _weighted(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = [i for i, example in enumerate(self.examples) if example.label == label]
        kinds = [(self.examples[i].source, self.examples[i].generator) for i in chosen]
        speakers = [self.examples[i].group for i in chosen]
        of_kind, of_speaker = Counter(kinds), Counter(speakers)
        weights = [(of_kind[k] * of_speaker[s]) ** -0.5 for k, s in zip(kinds, speakers, strict=True)]
        return np.array(chosen), np.array(weights) / sum(weights)

    def batches(self, start: int, stop: int, pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (N, BANDS, T, 1) float32 decibels and (N, 1) float32 labels, made ahead in threads."""
        waiting: dict[int, list[Future]] = {}
        for step in range(start, stop):
            for ahead in range(step, min(step + LOOKAHEAD, stop)):
                if ahead not in waiting:
                    waiting[ahead] = [pool.submit(self._cut, view) for view in self._views(ahead)]
            windows = np.stack([future.result() for future in waiting.pop(step)])
            labels = np.repeat(np.array([0, 1], np.float32), self.settings.batch // 2)
            yield log_spectrogram(windows)[..., None], labels[:, None]

    def _views(self, step: int) -> list[View]:
        """Return what stands at each place of a batch."""
        rng = np.random.default_rng([self.settings.seed, step])
        half = self.settings.batch // 2
        chosen = [rng.choice(indices, half, p=weights) for indices, weights in self._pools]
        numbers = range(self.settings.versions)
        arrivals = ["stored" if rng.random() < STORED_CHANCE else int(rng.choice(numbers)) for _ in range(2 * half)]
        views = [View(int(i), "", arrivals[place], rng.random()) for place, i in enumerate(np.concatenate(chosen))]
        for place in np.flatnonzero(rng.random(half) < self.settings.copies):
            copy = str(rng.choice(list(COPY_CHANCES), p=list(COPY_CHANCES.values())))
            views[half + place] = replace(views[place], copy=copy)
        return views

    def _cut(self, view: View) -> np.ndarray:
        sound = canonical(_to_float(self._sounds.read(self.examples[view.index], view.copy, view.delivery)))
        start = int(view.place * (len(sound) - WINDOW))
        return sound[start : start + WINDOW]


@cache
def _digest(path: Path) -> str:
    return file_sha256(path)


def _to_int16(sound: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def _to_float(sound: np.ndarray) -> np.ndarray:
    return sound.astype(np.float32) / 32767


def train(examples: list[Example], sounds: Sounds, settings: Settings, run: Path) -> tuple[Any, list[dict[str, float]]]:
    """Train on these examples until the last step, keeping in `run` a checkpoint and the curve.

    Returns:
        The network with the average of its weights, and the curve.
    """
    import keras

    run.mkdir(parents=True, exist_ok=True)
    checkpoint, history = run / "checkpoint.keras", run / "history.json"
    model = keras.models.load_model(checkpoint) if checkpoint.is_file() else compile_model(settings)
    # The checkpoint is written last and says how far the run is; the curve may be a round ahead of it.
    done = int(model.optimizer.iterations)
    curve = json.loads(history.read_text()) if history.is_file() else []
    curve = [row for row in curve if row["step"] <= done]
    stream = Stream(examples, sounds, settings)
    progress = tqdm(total=settings.steps, initial=done, unit="batch", desc=run.name)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        while done < settings.steps:
            stop = min(settings.steps, done + ROUND_STEPS)
            # Dropout, too, draws from the seed and the step; a generator's own state is in no checkpoint.
            for place, generator in enumerate(dropout_generators(model)):
                generator.state.assign([settings.seed + place, done])
            losses = []
            for decibels, labels in stream.batches(done, stop, pool):
                losses.append(float(model.train_on_batch(decibels, labels)))
                progress.update()
            done = stop
            curve.append({"step": done, "train_loss": round(float(np.mean(losses)), 4)})
            progress.set_postfix(loss=f"{curve[-1]['train_loss']:.3f}")
            replace_file(history, lambda part: part.write_text(json.dumps(curve)))
            replace_file(checkpoint, model.save)
    with averaged_weights(model):
        weights = model.get_weights()
    model.set_weights(weights)
    outputs = {name: model.get_layer(name).output for name in ("logit", "class_map")}
    return keras.Model(model.input, outputs, name=NETWORK), curve


def compile_model(settings: Settings) -> Any:
    """Build the network with its logit alone as output, ready to train for `settings.steps`."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    network = build_voice_network(BANDS, dropout=settings.dropout)
    model = keras.Model(network.input, network.output["logit"])
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.steps)
    # An average over more than a tenth of the run would still be full of the weights it began with.
    momentum = min(AVERAGE_MOMENTUM, settings.steps / (settings.steps + 10))
    model.compile(
        keras.optimizers.AdamW(
            rate, weight_decay=settings.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=momentum
        ),
        loss=keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
    )
    return model


def ask(judge: VoiceDetector, examples: list[Example], sounds: Sounds, folder: Path, fold: str) -> list[dict[str, Any]]:
    """Judge recordings in every delivery, exactly as the server would; returns rows of SCORE_COLUMNS."""
    rows = []
    for example in tqdm(examples, desc=f"asking {fold}", unit="recording"):
        for delivery in DELIVERIES:
            found = judge.detect(_to_float(sounds.read(example, delivery=delivery)))
            rows.append(
                {
                    "path": Path(os.path.relpath(example.path, folder)).as_posix(),
                    "label": example.label,
                    "source": example.source,
                    "generator": example.generator,
                    "group": example.group,
                    "fold": fold,
                    "delivery": delivery,
                    "seconds": round(found.duration_s, 2),
                    "logit": round(found.logit, 5),
                    "probability": round(found.probability, 6),
                    "verdict": str(found.verdict),
                    "reasons": ";".join(found.reasons),
                }
            )
    return rows


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows of SCORE_COLUMNS as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read what `write_rows` wrote."""
    kinds = {"label": int, "seconds": float, "logit": float, "probability": float}
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: kinds.get(name, str)(text) for name, text in row.items()} for row in csv.DictReader(file)]
