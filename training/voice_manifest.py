"""Lists of labelled recordings, and the folds of a cross-validation that separates speakers and generators.

A manifest of recordings is a CSV file with the columns path, label (1 = fake), split, source, generator and speaker;
paths are relative to it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.manifests import Example

SPEECH_MANIFEST_COLUMNS = ("path", "label", "split", "source", "generator", "speaker")
# Generators by the model that makes the waveform. The first key that occurs in the lower-case name decides.
VOCODER_FAMILIES = {
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
GENERATOR, FAMILY = "generator", "family"  # what a fold leaves out


@dataclass(frozen=True)
class Fold:
    """A generator or a family that a network is not trained on, and the part of the speakers that tests the network.

    Attributes:
        held: GENERATOR or FAMILY.
        name: of the generator or family.
        part: number of the part of the speakers, from 0.
    """

    held: str
    name: str
    part: int


def read_speech_manifest(path: Path) -> list[Example]:
    """Read a manifest of recordings; the group of an example is its speaker.

    A speaker such as "vctk?" is known by the collection only. All speakers of that collection then form one group.

    Raises:
        SystemExit: the file, a column or a value is missing, or a label is not 0 or 1.
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


def read_training_recordings(path: Path) -> list[Example]:
    """Read the recordings of the split train.

    Raises:
        SystemExit: `read_speech_manifest` rejects the manifest, or the split lacks real or fake recordings.
    """
    examples = [example for example in read_speech_manifest(path) if example.split == "train"]
    if {example.label for example in examples} != {0, 1}:
        raise SystemExit(f"The manifest {path} needs real and fake recordings in its split train.")
    return examples


def family_of(generator: str) -> str:
    """Return the family of a generator by VOCODER_FAMILIES; an unlisted generator is its own family."""
    return next((family for key, family in VOCODER_FAMILIES.items() if key in generator.lower()), generator)


def assign_speaker_parts(examples: list[Example], parts: int) -> dict[str, int]:
    """Assign each speaker to a part, so that all parts have about as many fakes and as many reals.

    Returns:
        The number of the part, from 0, by speaker.
    """
    counts: dict[str, list[int]] = {example.group: [0, 0] for example in examples}
    for example in examples:
        counts[example.group][example.label] += 1
    part_of: dict[str, int] = {}
    totals = np.zeros((parts, 2))
    for group in sorted(counts, key=lambda group: (-max(counts[group]), group)):
        # Balance fakes first, since a few speakers have most of them, then reals, then both.
        label = 1 if counts[group][1] else 0
        part_of[group] = min(range(parts), key=lambda part: (totals[part, label], totals[part].sum(), part))
        totals[part_of[group]] += counts[group]
    return part_of


def list_folds(examples: list[Example], parts: int) -> list[Fold]:
    """Return the folds: every generator and every family, in every part in which it has fakes."""
    part_of = assign_speaker_parts(examples, parts)
    fakes = [(example.generator, part_of[example.group]) for example in examples if example.label]
    folds = {Fold(GENERATOR, name, part) for name, part in fakes}
    folds |= {Fold(FAMILY, family_of(name), part) for name, part in fakes}
    return sorted(folds, key=lambda fold: (fold.held, fold.name, fold.part))


def split_fold(examples: list[Example], fold: Fold, parts: int) -> tuple[list[int], list[int]]:
    """Return the indices of the training and of the test recordings of a fold.

    The network is tested on the fakes of the fold's generator or family and on all reals, in the fold's part of the
    speakers. It is trained on the other parts, without the fold's generator or family.
    """
    part_of = assign_speaker_parts(examples, parts)
    train, test = [], []
    for index, example in enumerate(examples):
        name = example.generator if fold.held == GENERATOR else family_of(example.generator)
        is_left_out = example.label == 1 and name == fold.name
        if part_of[example.group] != fold.part and not is_left_out:
            train.append(index)
        if part_of[example.group] == fold.part and (is_left_out or not example.label):
            test.append(index)
    return train, test
