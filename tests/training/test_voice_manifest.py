import csv

import numpy as np
import pytest

from training.manifests import Example
from training.voice_manifest import (
    FAMILY,
    GENERATOR,
    SPEECH_MANIFEST_COLUMNS,
    assign_speaker_parts,
    family_of,
    list_folds,
    read_speech_manifest,
    read_training_recordings,
    split_fold,
)

GENERATORS = ("HGAN_V1", "tacotron2+hifigan", "wavenet")


def write_manifest(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([SPEECH_MANIFEST_COLUMNS, *rows])
    return path


def example(label, generator, group):
    return Example(None, label, "a", generator, group, "train")


EXAMPLES = [
    example(label, generator if label else "human", f"{generator} {number}")
    for generator in GENERATORS
    for number in range(4)
    for label in (0, 0, 1)
]


def test_a_speaker_known_by_the_collection_only_stands_for_the_whole_collection(tmp_path):
    speakers = ("vctk?", "vctk_p225", "ls1", "arctic")
    rows = [[f"{i}.wav", i % 2, "train", "s", "g", speaker] for i, speaker in enumerate(speakers)]
    found = read_speech_manifest(write_manifest(tmp_path / "m.csv", rows))
    assert [e.group for e in found] == ["vctk", "vctk", "ls1", "arctic"]
    assert found[0].path == tmp_path / "0.wav" and [e.label for e in found] == [0, 1, 0, 1]


def test_only_the_recordings_of_the_split_train_are_used_for_training(tmp_path):
    rows = [[f"{i}.wav", i % 2, "val" if i > 3 else "train", "s", "g", f"p{i}"] for i in range(6)]
    path = write_manifest(tmp_path / "m.csv", rows)
    assert [e.path.name for e in read_training_recordings(path)] == ["0.wav", "1.wav", "2.wav", "3.wav"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "is empty or lacks one of the columns"),
        ([["a.wav", 2, "train", "s", "g", "p"]], "has 2"),
        ([["a.wav", 1, "train", "s", "g", ""]], "needs a path, a speaker"),
        ([["a.wav", 1, "train", "s", "g", "p"]], "needs real and fake recordings"),
    ],
)
def test_an_unusable_manifest_is_rejected_with_a_sentence(tmp_path, rows, sentence):
    with pytest.raises(SystemExit, match=sentence):
        read_training_recordings(write_manifest(tmp_path / "m.csv", rows))


def test_a_missing_manifest_is_rejected_with_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="There is no manifest"):
        read_speech_manifest(tmp_path / "nowhere.csv")


def test_generators_of_one_vocoder_are_one_family():
    names = ("HGAN_V1", "tacotron2+hifigan", "wavenet-mol", "YourTTS", "Bark")
    assert [family_of(name) for name in names] == ["HiFi-GAN", "HiFi-GAN", "WaveNet", "VITS", "Bark"]


def test_no_speaker_and_no_generator_is_on_both_sides_of_a_fold():
    folds = list_folds(EXAMPLES, 3)
    assert {fold.name for fold in folds if fold.held == GENERATOR} == set(GENERATORS)
    assert {fold.name for fold in folds if fold.held == FAMILY} == {"HiFi-GAN", "WaveNet"}
    tested = {GENERATOR: set(), FAMILY: set()}
    for fold in folds:
        train, test = split_fold(EXAMPLES, fold, 3)
        assert not {EXAMPLES[i].group for i in train} & {EXAMPLES[i].group for i in test}
        name_of = family_of if fold.held == FAMILY else str
        assert fold.name not in {name_of(EXAMPLES[i].generator) for i in train if EXAMPLES[i].label}
        assert {name_of(EXAMPLES[i].generator) for i in test if EXAMPLES[i].label} == {fold.name}
        assert {EXAMPLES[i].label for i in train} == {0, 1}
        tested[fold.held] |= set(test)
    assert tested[GENERATOR] == tested[FAMILY] == set(range(len(EXAMPLES)))


def test_parts_have_about_as_many_fakes_and_as_many_reals():
    examples = [example(label, "g", f"s{i}") for i in range(15) for label in [0] * (i % 4 + 1) + [1] * (i % 3)]
    parts = assign_speaker_parts(examples, 5)
    for label in (0, 1):
        counts = np.bincount([parts[e.group] for e in examples if e.label == label], minlength=5)
        assert np.ptp(counts) <= 4
    assert parts == assign_speaker_parts(examples[::-1], 5)
