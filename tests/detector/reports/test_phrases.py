import re

import pytest

from detector.evidence import EXPLANATION_METHODS
from detector.media import MEDIA
from detector.reports.phrases import (
    METHOD_NAMES,
    TAIL_PHRASES,
    advice,
    error_rate_origin,
    error_rate_sentence,
    format_face_sizes,
    headline,
    map_caption,
    method_name,
    reason_sentence,
    size_sentence,
    suggestion_sentence,
    verdict_error_sentence,
    was_checked,
)
from detector.results import ERROR_CLASS_BY_VERDICT, Reason, Verdict

RATE = {
    **{"kind": "real", "n": 1204, "share": 0.021, "low": 0.014, "high": 0.031, "min_px": 96, "max_px": 160},
    "unseen": False,
}
KNOWN = "of the collections it was trained on"


@pytest.mark.parametrize(
    ("verdict", "media", "words"),
    [
        ("real", "image", "This is a Real Image!"),
        ("deepfake", "image", "This is a Deepfake Image!"),
        ("deepfake", "video", "This is a Deepfake Video!"),
        ("real", "audio", "This is a Real Voice!"),
        ("inconclusive", "audio", "Inconclusive"),
    ],
)
def test_every_verdict_has_a_headline(verdict, media, words):
    assert headline(verdict, media) == words


@pytest.mark.parametrize("reason", Reason)
def test_a_headline_says_what_could_not_be_checked(reason):
    words = headline("inconclusive", "image", [str(reason)])
    undecided = (Reason.BETWEEN_THRESHOLDS, Reason.UNSTABLE, Reason.TOO_MANY_FACES)
    assert was_checked([reason]) is (reason in undecided) is (words == "Inconclusive")
    assert words == "Inconclusive" or re.fullmatch("Could not be checked: [a-z ]+", words)


def test_the_first_reason_why_nothing_was_checked_is_in_the_headline():
    reasons = [Reason.BETWEEN_THRESHOLDS, Reason.TOO_DARK, Reason.DRAWING]
    assert headline("inconclusive", reasons=reasons) == "Could not be checked: the face is too dark"
    assert not was_checked(reasons) and was_checked([])


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_sentences_of_at_most_25_words(reason):
    for text in (reason_sentence(str(reason)), suggestion_sentence(str(reason))):
        assert text.endswith(".") and all(len(sentence.split()) <= 25 for sentence in text.split(". "))


def test_every_explanation_method_has_a_name():
    assert set(METHOD_NAMES) == set(EXPLANATION_METHODS)
    assert method_name("lime") == "LIME" and method_name("another") == "another"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {},
            f"In our test, 21 (14 to 31) in 1,000 real pictures scored this high. Measured on 1,204 {KNOWN} "
            "with a face of this size.",
        ),
        (
            {"kind": "fake", "n": 87, "share": 0.0, "low": 0.0, "high": 0.042},
            f"In our test, none (0 to 42) in 1,000 deepfakes scored this low. Measured on 87 {KNOWN} "
            "with a face of this size.",
        ),
        (
            {"kind": "fake", "n": 4213, "share": 0.0871, "low": 0.0701, "high": 0.1054, "unseen": True},
            "In our test, 87 (70 to 106) in 1,000 deepfakes of kinds it had not seen scored this low. "
            "Measured on 4,213 with a face of this size.",
        ),
        (
            {"n": 87, "share": 0.0, "low": 0.0, "high": 0.042, "unseen": True},
            "In our test, none (0 to 42) in 1,000 real pictures from sources it had not seen scored this high. "
            "Measured on 87 with a face of this size.",
        ),
        (
            {"n": 3000, "share": 0.0003, "low": 0.0001, "high": 0.002, "unseen": True},
            "In our test, fewer than 1 (0 to 2) in 1,000 real pictures from sources it had not seen scored this high. "
            "Measured on 3,000 with a face of this size.",
        ),
    ],
)
def test_an_error_rate_is_a_sentence_with_its_origin_n_and_interval(changed, sentence):
    assert error_rate_sentence({**RATE, **changed}).replace("\N{NO-BREAK SPACE}", " ") == sentence


def test_an_error_rate_of_recordings_names_recordings():
    sentence = error_rate_sentence(RATE, "audio").replace("\N{NO-BREAK SPACE}", " ")
    assert (
        sentence == f"In our test, 21 (14 to 31) in 1,000 real recordings scored this high. Measured on 1,204 {KNOWN}."
    )


def test_rates_of_voices_are_of_speakers_and_generators():
    for kind, ending in (("real", "of speakers it had not heard"), ("fake", "of generators it had not heard")):
        sentence = error_rate_sentence({**RATE, "kind": kind, "unseen": True}, "audio")
        assert f"{MEDIA['audio'].class_names[kind]} {ending} scored" in sentence


def test_a_rate_of_all_sizes_names_no_size():
    everything = {**RATE, "min_px": 0, "max_px": None}
    assert size_sentence(everything) == "" and "size" not in error_rate_sentence(everything)
    assert size_sentence(RATE) == "This size is a face of 96 to 159 pixels." and size_sentence(RATE, "audio") == ""


FAKES = {**RATE, "kind": "fake", "share": 0.0871, "high": 0.1054}


@pytest.mark.parametrize(
    ("rates", "media", "sentence"),
    [
        ([FAKES], "image", "9 of 100 deepfakes looked this real, measured only on the collections it was trained on."),
        (
            [{**FAKES, "unseen": True}],
            "image",
            "On kinds of fakes it had not seen, 9 of 100 deepfakes looked this real.",
        ),
        (
            [{**RATE, "unseen": True}],
            "video",
            "On sources it had not seen, 2 of 100 real videos looked this fake.",
        ),
        (
            [{**RATE, "unseen": True}, {**FAKES, "unseen": True}],
            "audio",
            "On generators and speakers it had not heard, 2 of 100 real recordings sounded this fake and "
            "9 of 100 deepfakes sounded this real.",
        ),
        (
            [{**RATE, "share": 0.0, "high": 0.042}],
            "image",
            "At most 5 of 100 real pictures looked this fake, measured only on the collections it was trained on.",
        ),
        ([], "image", "How often such a verdict is wrong has not been measured for this model."),
    ],
)
def test_one_sentence_says_how_often_such_a_verdict_is_wrong(rates, media, sentence):
    assert verdict_error_sentence(rates, media) == sentence
    assert len(sentence.split()) <= 25 + 5 * (len(rates) > 1)


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("reasons", [(), *([reason] for reason in Reason)])
def test_advice_is_three_lines(media, verdict, reasons):
    lines = advice(verdict, media, reasons)
    assert len(lines) == 3 and MEDIA[media].search_advice in lines
    assert all(len(sentence.split()) <= 25 for line in lines for sentence in line.split(". "))
    assert all(suggestion_sentence(reason) in " ".join(lines) for reason in reasons)


@pytest.mark.parametrize(("matters", "start"), [(None, "Not tested:"), (True, "Tested:"), (False, "Tested:")])
def test_the_caption_of_a_map_says_the_result_of_its_check(matters, start):
    assert map_caption("It lies in the mouth.", matters).startswith(f"It lies in the mouth. {start}")
    assert ("do not rely on" in map_caption("", matters)) is (matters is False)


@pytest.mark.parametrize("media", ["image", "audio"])
def test_the_origin_of_a_rate_says_which_files_it_does_not_cover(media):
    known, unseen = (error_rate_origin({**RATE, "unseen": unseen}, media) for unseen in (False, True))
    item = MEDIA[media].item
    tested = "The network that scored each recording" if media == "audio" else f"The {item}s of our test"
    assert tested in known and "Other collections were not measured" in known
    unknown = "its page, its speaker or its generator" if media == "audio" else "its kind or its source"
    assert f"The network that scored each {item} had not learned from {unknown}." in unseen
    assert "has learned from all of them" in unseen
    assert all(len(sentence.split()) <= 25 for text in (known, unseen) for sentence in text.split(". "))


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
    assert format_face_sizes({"min_px": min_px, "max_px": max_px}) == words


@pytest.mark.parametrize("verdict", Verdict)
def test_every_error_class_has_words(verdict):
    for kind in ERROR_CLASS_BY_VERDICT[verdict]:
        assert TAIL_PHRASES[kind] and all(medium.class_names[kind] for medium in MEDIA.values())
