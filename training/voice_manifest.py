"""Lists of labelled recordings, and the folds of a cross-validation that separates pages, speakers and generators.

A manifest of recordings is a CSV file with the columns path, label (1 = fake), split, source, generator and speaker;
paths are relative to it. A column page is optional: recordings of one page share sentences, microphones and coding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.manifests import Example, read_labelled_rows

SPEECH_MANIFEST_COLUMNS = ("path", "label", "split", "source", "generator", "speaker")
# Generators by the model that makes the waveform, else by the system that all versions of a generator share. The first
# key that occurs in the lower-case name decides.
GENERATOR_FAMILIES = {
    "wavenet": "WaveNet",
    "waveglow": "WaveGlow",
    "wg": "WaveGlow",
    "styletts": "StyleTTS",
    "bigvgan": "BigVGAN",
    "hifigan": "HiFi-GAN",
    "hifi-gan": "HiFi-GAN",
    "hgan": "HiFi-GAN",
    "jets": "HiFi-GAN",
    "dddm": "HiFi-GAN",
    "naturalspeech 2": "NaturalSpeech 2",
    "naturalspeech 3": "NaturalSpeech 3",
    "naturalspeech": "VITS",
    "yourtts": "VITS",
    "vits": "VITS",
    "vocos": "Vocos",
    "encodec": "EnCodec",
    "melgan": "MelGAN",
    "parallel wavegan": "Parallel WaveGAN",
    "univnet": "UnivNet",
    "wavegrad": "WaveGrad",
    "nsf": "NSF",
    "vall-e": "VALL-E",
    "voicebox": "Voicebox",
    "mega-tts": "Mega-TTS",
    "hierspeech": "HierSpeech",
    "hiervst": "HierSpeech",
    "cosyvoice": "CosyVoice",
    "fireredtts": "FireRedTTS",
    "flashspeech": "FlashSpeech",
    "seed-tts": "Seed-TTS",
    "spark-tts": "Spark-TTS",
    "xtts": "XTTS",
    "tortoise": "Tortoise",
    "grad-": "Grad-TTS",
    "hiervc": "DiffVC",
    "diffvc": "DiffVC",
    "ditto": "DiTTo-TTS",
    "coqui": "Coqui TTS",
}
GENERATOR, FAMILY = "generator", "family"  # what a fold leaves out
TEXT_TO_SPEECH = "text-to-speech"
# Kinds of generators by the beginning of a name without spaces and signs, then by a word that occurs in the name.
# What neither finds is TEXT_TO_SPEECH.
KINDS_BY_START = {
    "codec": "codec",
    **dict.fromkeys(("festival", "flite", "mary", "nanotts"), "classic"),
    **dict.fromkeys(("copysyn", "wavenet", "waveflow", "waveglow", "wavegrad", "parallelwavegan"), "vocoder"),
    **dict.fromkeys(("melgan", "multibandmelgan", "univnet", "bigvgan", "nsf", "priorgrad", "specgrad"), "vocoder"),
}
KINDS_BY_WORD = {
    "vocoder": "vocoder",
    **dict.fromkeys(("voice conversion", "vc", "fragment", "voicemixer", "hiervst"), "voice conversion"),
}


@dataclass(frozen=True)
class Recording(Example):
    """A labelled recording; its group is the speaker.

    Attributes:
        page: where the recording was published; the speaker where the manifest has no column page.
    """

    page: str = ""


@dataclass(frozen=True)
class Fold:
    """A page on which a network is tested that has learned nothing of its recordings, speakers and fakes' generators.

    Attributes:
        held: GENERATOR or FAMILY; how much is left out with the generators of the page's fakes.
        page: that is tested.
        part: of the pages, from 0; probabilities of a part come from a calibration without it.
    """

    held: str
    page: str
    part: int


def read_speech_manifest(path: Path) -> list[Recording]:
    """Read a manifest of recordings; the group of an example is its speaker.

    A speaker such as "vctk?" is known by the collection only. All speakers of that collection then form one group.

    Raises:
        SystemExit: the file, a column or a value is missing, or a label is not 0 or 1.
    """
    rows = read_labelled_rows(path, SPEECH_MANIFEST_COLUMNS)
    if any(not row[name] for row in rows for name in ("path", "speaker", "generator", "split")):
        raise SystemExit(f"Every row of the manifest {path} needs a path, a speaker, a generator and a split.")
    unknown = tuple(row["speaker"].rstrip("?") for row in rows if row["speaker"].endswith("?"))

    def group(speaker: str) -> str:
        return next((collection for collection in unknown if speaker.startswith(collection)), speaker)

    return [
        Recording(
            path.parent / row["path"],
            int(row["label"]),
            row["source"],
            row["generator"],
            group(row["speaker"]),
            row["split"],
            page=row.get("page") or group(row["speaker"]),
        )
        for row in rows
    ]


def read_training_recordings(path: Path) -> list[Recording]:
    """Read the recordings of the split train.

    Raises:
        SystemExit: `read_speech_manifest` rejects the manifest, or the split lacks real or fake recordings.
    """
    examples = [example for example in read_speech_manifest(path) if example.split == "train"]
    if {example.label for example in examples} != {0, 1}:
        raise SystemExit(f"The manifest {path} needs real and fake recordings in its split train.")
    return examples


def name_of(generator: str) -> str:
    """Return what different spellings and settings of a generator share: no remarks in brackets, signs or capitals."""
    return re.sub(r"\(.*?\)|[^a-z0-9+]", "", generator.lower())


def family_of(generator: str) -> str:
    """Return the family of a generator by GENERATOR_FAMILIES; an unlisted generator is its own family."""
    found = (family for key, family in GENERATOR_FAMILIES.items() if key in generator.lower())
    return next(found, generator)


def kind_of(generator: str) -> str:
    """Return the kind of a generator: TEXT_TO_SPEECH or a value of KINDS_BY_START or KINDS_BY_WORD."""
    by_start = (kind for key, kind in KINDS_BY_START.items() if name_of(generator).startswith(key))
    by_word = (kind for key, kind in KINDS_BY_WORD.items() if key in generator.lower())
    return next(by_start, None) or next(by_word, TEXT_TO_SPEECH)


def assign_page_parts(recordings: list[Recording], parts: int) -> dict[str, int]:
    """Assign each page to a part, so that all parts have about as many fakes and as many reals.

    Returns:
        The number of the part, from 0, by page.
    """
    counts: dict[str, list[int]] = {recording.page: [0, 0] for recording in recordings}
    for recording in recordings:
        counts[recording.page][recording.label] += 1
    part_of: dict[str, int] = {}
    totals = np.zeros((parts, 2))
    for page in sorted(counts, key=lambda page: (-max(counts[page]), page)):
        # Balance fakes first, since a few pages have most of them, then reals, then both.
        label = 1 if counts[page][1] else 0
        part_of[page] = min(range(parts), key=lambda part: (totals[part, label], totals[part].sum(), part))
        totals[part_of[page]] += counts[page]
    return part_of


def list_folds(recordings: list[Recording], parts: int) -> list[Fold]:
    """Return the folds: every page, once without the generators of its fakes and once without their families."""
    part_of = assign_page_parts(recordings, parts)
    return [Fold(held, page, part_of[page]) for held in (GENERATOR, FAMILY) for page in sorted(part_of)]


def split_fold(recordings: list[Recording], fold: Fold) -> tuple[list[int], list[int]]:
    """Return the indices of the training and of the test recordings of a fold.

    The network is tested on the fold's page. It is trained on the recordings that share neither page nor speaker with
    a test recording, without the fakes that share a generator or family with a fake among them.
    """
    of_name = name_of if fold.held == GENERATOR else family_of
    test = [index for index, recording in enumerate(recordings) if recording.page == fold.page]
    speakers = {recordings[index].group for index in test}
    generators = {of_name(recordings[index].generator) for index in test if recordings[index].label}
    train = [
        index
        for index, recording in enumerate(recordings)
        if recording.page != fold.page
        and recording.group not in speakers
        and not (recording.label and of_name(recording.generator) in generators)
    ]
    return train, test
