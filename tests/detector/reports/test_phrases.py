from datetime import UTC, datetime

import pytest

from detector import Verdict
from detector.media.degradations import TIERS
from detector.results import ERROR_CLASS_BY_VERDICT, Reason
from webapp import template_filters as wording


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_words(verdict):
    assert wording.headline(str(verdict)) and wording.short_verdict(str(verdict))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_a_sentence(reason):
    assert wording.reason_sentence(str(reason)).endswith(".")


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "under 0.1%"), (0.0004, "under 0.1%"), (0.031, "3.1%"), (0.5, "50%"), (0.954, "95.4%"), (1, "over 99.9%")],
)
def test_a_probability_never_claims_certainty(share, words):
    assert wording.probability(share) == words


@pytest.mark.parametrize(
    ("measured", "share", "words"),
    [
        ({"value": 0.031, "low": 0.02, "high": 0.046, "n": 9}, True, "3.1% (2.0% to 4.6%)"),
        ({"value": 0.912, "low": 0.9, "high": 0.92}, False, "0.912 (0.900 to 0.920)"),
        ({"value": 0.031, "low": None, "high": None}, True, "3.1%"),
        (0.5, True, "50.0%"),
    ],
)
def test_an_estimate_shows_its_interval_when_it_has_one(measured, share, words):
    assert wording.estimate(measured, share=share).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(("size", "words"), [(7, "7 bytes"), (12_345, "12 kB"), (3_456_789, "3.5 MB")])
def test_sizes(size, words):
    assert wording.megabytes(size) == words


@pytest.mark.parametrize(("elapsed_ms", "words"), [(84.4, "84 ms"), (1234, "1.2 s")])
def test_durations(elapsed_ms, words):
    assert wording.duration(elapsed_ms) == words


def test_moments_are_said_in_utc():
    assert wording.moment(datetime(2026, 11, 2, 8, 39, tzinfo=UTC)) == "2 November 2026, 08:39 UTC"


def test_every_delivery_has_words():
    assert set(TIERS) == set(wording.DELIVERIES)
    assert wording.delivery("another") == "another"


RATE = {"kind": "real", "n": 1204, "share": 0.021, "low": 0.014, "high": 0.031, "min_px": 96, "max_px": 160}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {},
            "Of 1,204 held-out real pictures with a face of this size, 2.1% (1.4% to 3.1%) scored this high or higher.",
        ),
        (
            {"kind": "fake", "n": 87, "share": 0.0, "low": 0.0, "high": 0.042},
            "Of 87 held-out deepfakes with a face of this size, none (0.0% to 4.2%) scored this low or lower.",
        ),
    ],
)
def test_an_error_rate_is_a_sentence_with_n_and_interval(changed, sentence):
    assert wording.rate_sentence({**RATE, **changed}).replace("\N{NO-BREAK SPACE}", " ") == sentence


@pytest.mark.parametrize(
    ("min_px", "max_px", "words"),
    [
        (96, 160, "96 to 159 pixels"),
        (0, 96, "up to 95 pixels"),
        (256, None, "256 pixels or more"),
        (0, None, "any number of pixels"),
    ],
)
def test_sizes_of_faces(min_px, max_px, words):
    assert wording.face_sizes({"min_px": min_px, "max_px": max_px}) == words


@pytest.mark.parametrize("verdict", Verdict)
def test_every_kind_a_verdict_is_wrong_about_has_words(verdict):
    assert all(wording.counted(kind, media) for media in ("image", "audio") for kind in ERROR_CLASS_BY_VERDICT[verdict])
