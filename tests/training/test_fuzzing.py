"""Broken files: how they are broken, that the detector answers them, and that a bad answer is noticed."""

import random
import re
from unittest.mock import Mock

import pytest

from detector import UnreadableMedia
from detector.media import MEDIA, sniff
from training import fuzzing
from training.fuzzing import (
    DAMAGES,
    Answer,
    DetectorProcess,
    FuzzOptions,
    Outcome,
    broken_files,
    fuzz,
    whole_pictures,
    whole_recordings,
    whole_videos,
)

pytestmark = pytest.mark.slow

WHOLE_FILES = {"image": whole_pictures, "video": whole_videos, "audio": whole_recordings}


@pytest.mark.parametrize("media", MEDIA)
def test_every_type_of_a_medium_is_broken(media):
    # Nothing that ships writes HEIC; tests/detector/media/test_heif.py breaks such files.
    assert {sniff(data) for data in WHOLE_FILES[media]().values()} == set(MEDIA[media].media_types) - {"image/heic"}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_each_damage_changes_a_file(damage):
    whole = random.Random(0).randbytes(5000)
    broken = bytearray(whole)
    damage(broken, random.Random(1), bytes(5000))
    assert broken != whole


def test_the_same_seed_breaks_the_same_files():
    first, again, other = (dict(broken_files("audio", 12, seed)) for seed in (3, 3, 4))
    assert first == again and not set(first.values()) & set(other.values())
    assert len(set(first.values())) == 12


def test_dozens_of_broken_files_of_each_medium_get_a_verdict_or_a_sentence(capsys):
    """The short version of `python scripts/fuzz.py`."""
    reports = fuzz(FuzzOptions(files=14, seed=1, limit_s=60))
    printed = capsys.readouterr().out
    for media, report in reports.items():
        assert set(report.outcomes) == {Outcome.VERDICT, Outcome.SENTENCE} and report.outcomes.total() == 14
        assert report.failures == {} and f"| {media} | " in printed


def test_a_crash_and_an_endless_file_are_noticed_and_end_only_that_file():
    picture = whole_pictures()["jpg"]
    with DetectorProcess(60) as process:
        assert process.answer(picture).outcome == Outcome.VERDICT
        process._running[0].kill()
        crashed = process.answer(picture)
        assert crashed.outcome == Outcome.CRASH and "exit code -9" in crashed.words
        assert process.answer(b"no picture").outcome == Outcome.SENTENCE
        process._limit_s = 0
        assert process.answer(picture).outcome == Outcome.TOO_LONG


def test_any_other_error_is_a_traceback(real_detector, monkeypatch):
    monkeypatch.setattr(real_detector, "detect", lambda data: 1 / 0)
    outcome, words = fuzzing._answer_file(real_detector, b"")
    assert outcome == Outcome.TRACEBACK and "ZeroDivisionError" in words
    for text, expected in (("A file is broken.", Outcome.SENTENCE), ("[Errno 5]", Outcome.TRACEBACK)):
        monkeypatch.setattr(real_detector, "detect", Mock(side_effect=UnreadableMedia(text)))
        assert fuzzing._answer_file(real_detector, b"")[0] == expected


@pytest.mark.parametrize(
    "answer", [Answer(Outcome.TRACEBACK, "a mistake"), Answer(Outcome.VERDICT, "real", peak_mb=5000)]
)
def test_failures_are_printed_and_kept(monkeypatch, tmp_path, capsys, answer):
    monkeypatch.setattr(DetectorProcess, "answer", lambda process, data: answer)
    with pytest.raises(SystemExit, match="2 broken files got neither"):
        fuzz(FuzzOptions(files=2, media=("audio",), keep=tmp_path))
    assert re.search("audio-0-1.wav: (traceback\na mistake|too much memory\n5000 MB)", capsys.readouterr().err)
    assert dict(broken_files("audio", 2, 0)) == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
