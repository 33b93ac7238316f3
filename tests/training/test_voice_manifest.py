import csv

import numpy as np
import pytest

from training.voice_manifest import (
    FAMILY,
    GENERATOR,
    SPEECH_MANIFEST_COLUMNS,
    Recording,
    assign_page_parts,
    family_of,
    kind_of,
    list_folds,
    name_of,
    read_speech_manifest,
    read_training_recordings,
    split_fold,
)

GENERATORS = ("HGAN_V1", "tacotron2+hifigan", "wavenet")


def write_manifest(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([SPEECH_MANIFEST_COLUMNS, *rows])
    return path


def recording(label, generator, group, page):
    return Recording(None, label, "a", generator, group, "train", page=page)


# Three generators on pages of their own, and a page whose fakes are by two of them; the pages share a speaker.
RECORDINGS = [
    recording(label, generator if label else "human", f"{generator} {number}" if number else "shared", f"page {page}")
    for page, generator in enumerate(GENERATORS)
    for number in range(4)
    for label in (0, 0, 1)
] + [recording(1, generator, f"mixed {generator}", "page 3") for generator in (GENERATORS[0], "WaveNet (copy)")]


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


def test_a_recording_without_a_page_has_its_speaker_as_page(tmp_path):
    rows = [["a.wav", 0, "train", "s", "g", "p1"], ["b.wav", 1, "train", "s", "g", "p2"]]
    path = write_manifest(tmp_path / "m.csv", rows)
    assert [e.page for e in read_speech_manifest(path)] == ["p1", "p2"]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([(*SPEECH_MANIFEST_COLUMNS, "page"), [*rows[0], "demo"], [*rows[1], "demo"]])
    assert [e.page for e in read_speech_manifest(path)] == ["demo", "demo"]


def test_generators_of_one_vocoder_or_system_are_one_family():
    names = ("HGAN_V1", "tacotron2+hifigan", "wavenet-mol", "YourTTS", "NaturalSpeech 3", "XTTS v1", "XTTS v2", "Bark")
    families = ["HiFi-GAN", "HiFi-GAN", "WaveNet", "VITS", "NaturalSpeech 3", "XTTS", "XTTS", "Bark"]
    assert [family_of(name) for name in names] == families


def test_spellings_and_settings_of_a_generator_have_one_name():
    assert name_of("YourTTS (VC)") == name_of("yourtts") == "yourtts"
    assert name_of("tacotron2+WG") != name_of("tacotron2")


@pytest.mark.parametrize(
    ("generator", "kind"),
    [
        ("Voicebox (reproduced)", "text-to-speech"),
        ("Bark + Vocos", "text-to-speech"),
        ("tacotron2+WG", "text-to-speech"),
        ("HiFi-GAN (vocoder resynthesis)", "vocoder"),
        ("Multi-band MelGAN", "vocoder"),
        ("copysyn-HGAN_V1", "vocoder"),
        ("codec: EnCodec 3kbps tokens decoded by Vocos", "codec"),
        ("BNE-PPG-VC", "voice conversion"),
        ("YourTTS voice conversion", "voice conversion"),
        ("Festival (diphone / HTS / MBROLA / clunits)", "classic"),
    ],
)
def test_the_name_of_a_generator_shows_its_kind(generator, kind):
    assert kind_of(generator) == kind


@pytest.mark.parametrize(("held", "of_name"), [(GENERATOR, name_of), (FAMILY, family_of)])
def test_no_page_no_speaker_and_no_generator_is_on_both_sides_of_a_fold(held, of_name):
    tested = []
    for fold in (fold for fold in list_folds(RECORDINGS, 2) if fold.held == held):
        train, test = ([RECORDINGS[i] for i in side] for side in split_fold(RECORDINGS, fold))
        assert {e.page for e in test} == {fold.page} and fold.page not in {e.page for e in train}
        assert not {e.group for e in train} & {e.group for e in test}
        names = [{of_name(e.generator) for e in side if e.label} for side in (train, test)]
        assert not names[0] & names[1]
        tested += test
    assert len(tested) == len(RECORDINGS) and {id(e) for e in tested} == {id(e) for e in RECORDINGS}


def test_a_fold_keeps_what_shares_nothing_with_its_page():
    fold = next(fold for fold in list_folds(RECORDINGS, 2) if fold.held == GENERATOR and fold.page == "page 3")
    train, _ = split_fold(RECORDINGS, fold)
    kept = [RECORDINGS[i] for i in train]
    # All reals stay, since page 3 has speakers of its own; of the fakes only those by the third generator stay.
    assert sum(not e.label for e in kept) == 24 and {e.generator for e in kept if e.label} == {"tacotron2+hifigan"}


def test_parts_have_about_as_many_fakes_and_as_many_reals():
    recordings = [recording(label, "g", "s", f"{i}") for i in range(15) for label in [0] * (i % 4 + 1) + [1] * (i % 3)]
    parts = assign_page_parts(recordings, 5)
    for label in (0, 1):
        counts = np.bincount([parts[e.page] for e in recordings if e.label == label], minlength=5)
        assert np.ptp(counts) <= 4
    assert parts == assign_page_parts(recordings[::-1], 5)
