"""Verdicts, reasons and error rates in plain words, for reports and pages alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detector.media import MEDIA
from detector.results import Reason, Verdict
from detector.text import format_count, format_per_hundred, format_per_thousand

HEADLINES = {
    Verdict.REAL: "This is a Real {}!",
    Verdict.DEEPFAKE: "This is a Deepfake {}!",
    Verdict.INCONCLUSIVE: "Inconclusive",
}
UNCHECKED_HEADLINE = "Could not be checked: {}"
# Reasons for which nothing could be checked: as they end the headline. A score under one of them means nothing.
UNCHECKED_PHRASES = {
    Reason.NO_FACE: "no face found",
    Reason.TOO_SMALL: "the face is too small",
    Reason.TOO_BLURRED: "the face is too blurred",
    Reason.TOO_DARK: "the face is too dark",
    Reason.DRAWING: "it seems to be a drawing",
    Reason.TOO_FEW_FRAMES: "no face is in view long enough",
    Reason.TOO_SHORT: "too little speech",
    Reason.SILENT: "there is no sound",
    Reason.NOISY: "noise or music covers the voice",
    Reason.NO_SPEECH: "no speech found",
}
REASONS = {
    Reason.NO_FACE: "No face was found, and the detector knows only faces.",
    Reason.TOO_SMALL: "The face is too small: it has too few pixels to distinguish a real one from a fake.",
    Reason.TOO_BLURRED: "The face is too blurred: the fine detail that distinguishes a real one from a fake is gone.",
    Reason.TOO_DARK: "The face is too dark to be checked.",
    Reason.TOO_MANY_FACES: "There are so many faces that one of them may score high by chance.",
    Reason.DRAWING: "This seems to be a drawing or a painting, and the detector knows only photographs.",
    Reason.BETWEEN_THRESHOLDS: "The score lies between the two thresholds, where the detector is wrong too often to "
    "decide.",
    Reason.UNSTABLE: "The verdict changes when the same picture is saved again, so it depends more on the file than on "
    "the face.",
    Reason.TOO_FEW_FRAMES: "No face is visible long enough to be checked in several frames.",
    Reason.TOO_SHORT: "There is too little speech: a few seconds are needed.",
    Reason.SILENT: "There is no sound in this recording.",
    Reason.NOISY: "Noise or music covers the voice.",
    Reason.NO_SPEECH: "No speech was found in this recording.",
}
SUGGESTIONS = {  # what to try instead
    Reason.NO_FACE: "Try a file that shows the face larger and from the front.",
    Reason.TOO_SMALL: "Try a larger copy, or the original picture before it was shrunk.",
    Reason.TOO_BLURRED: "Try a sharper copy, or the original file from the camera.",
    Reason.TOO_DARK: "Try a brighter copy.",
    Reason.TOO_MANY_FACES: "Crop the picture to the person you mean.",
    Reason.DRAWING: "Try a photograph of the person.",
    Reason.BETWEEN_THRESHOLDS: "Try a better or unedited copy, such as the original file.",
    Reason.UNSTABLE: "Try the original file, before it was saved again.",
    Reason.TOO_FEW_FRAMES: "Try a longer part of the video in which the face stays in view.",
    Reason.TOO_SHORT: "Try a longer part of the recording.",
    Reason.SILENT: "Check whether the file plays with sound, and try another copy.",
    Reason.NOISY: "Try a part without music or noise.",
    Reason.NO_SPEECH: "Try a part in which one person speaks clearly.",
}
TAIL_PHRASES = {"real": "this high or higher", "fake": "this low or lower"}  # a score at least as wrong, by class
SHORT_TAIL_PHRASES = {"real": "this high", "fake": "this low"}
# Where the files of an error rate come from, by class.
UNSEEN_PHRASES = {"real": "from sources it had not seen", "fake": "of kinds it had not seen"}
UNHEARD_PHRASES = {"real": "of speakers it had not heard", "fake": "of generators it had not heard"}  # for voices
UNMEASURED = "How often such a verdict is wrong has not been measured for this model."
# Where the files of an error rate come from, in the sentence under the headline: by the classes it names.
UNSEEN_OPENINGS = {
    ("real",): "On sources it had not seen",
    ("fake",): "On kinds of fakes it had not seen",
    ("real", "fake"): "On kinds and sources it had not seen",
}
UNHEARD_OPENINGS = {
    ("real",): "On speakers it had not heard",
    ("fake",): "On generators it had not heard",
    ("real", "fake"): "On generators and speakers it had not heard",
}
KNOWN_ENDING = "measured only on the collections it was trained on"
LIKENESS_PHRASES = {"real": "this fake", "fake": "this real"}  # how a wrong file looked, by class
PUBLISHER_CHECK = "Check who published it first, and whether a source you trust confirms it."
WARNINGS = {
    Verdict.REAL: "Do not take this as proof: new kinds of fakes can be missed.",
    Verdict.DEEPFAKE: "Do not accuse anyone on this result alone: real {}s are sometimes called fake.",
    Verdict.INCONCLUSIVE: "Do not accuse anyone on this result alone.",
}
KNOWN_PHRASE = "of the collections it was trained on"
MAP_CHECKS = {
    None: "Not tested: we do not know whether the score depends on these areas.",
    True: "Tested: blurring these areas lowers the score more than blurring others.",
    False: "Tested: the score does not depend on these areas, so do not rely on this map.",
}
METHOD_NAMES = {"class_map": "Class activation map", "grad_cam": "Grad-CAM", "lime": "LIME"}


def was_checked(reasons: Sequence[str]) -> bool:
    """Return whether a file, face or voice with these reasons was checked at all, so that its score has a meaning."""
    return UNCHECKED_PHRASES.keys().isdisjoint(map(Reason, reasons))


def headline(verdict: str, media: str = "image", reasons: Sequence[str] = ()) -> str:
    """Return the headline of a verdict, or the first reason why nothing could be checked."""
    unchecked = [UNCHECKED_PHRASES[Reason(reason)] for reason in reasons if not was_checked([reason])]
    if unchecked:
        return UNCHECKED_HEADLINE.format(unchecked[0])
    return HEADLINES[Verdict(verdict)].format(MEDIA[media].noun)


def reason_sentence(reason: str) -> str:
    """Return a reason for an inconclusive verdict as a sentence."""
    return REASONS[Reason(reason)]


def suggestion_sentence(reason: str) -> str:
    """Return what to try when there is no verdict for this reason."""
    return SUGGESTIONS[Reason(reason)]


def map_caption(sentence: str, matters: bool | None) -> str:
    """Return where the heat of a map lies, and the result of its check.

    Args:
        sentence: of the explanation, computed from the map.
        matters: result of the deletion check; None if it was not run.
    """
    return f"{sentence} {MAP_CHECKS[matters]}".lstrip()


def method_name(method: str) -> str:
    """Return the name of an explanation method, such as "LIME" for "lime"."""
    return METHOD_NAMES.get(method, method)


def verdict_error_sentence(rates: Sequence[Mapping[str, Any]], media: str = "image") -> str:
    """Return how often such a verdict is wrong, of 100 files, as the one sentence under a headline.

    Examples:
        "On kinds of fakes it had not seen, 9 of 100 deepfakes looked this real."
        "2 of 100 real pictures looked this fake, measured only on the collections it was trained on."

    Args:
        rates: error rates of the classes that belong to the verdict, as a record of the present version holds them.
        media: a key of `MEDIA`.
    """
    if not rates:
        return UNMEASURED
    verb = "sounded" if media == "audio" else "looked"
    found = " and ".join(
        f"{format_per_hundred(rate['share'], rate['high'])} of 100 {MEDIA[media].class_names[rate['kind']]} "
        f"{verb} {LIKENESS_PHRASES[rate['kind']]}"
        for rate in rates
    )
    if all(rate["unseen"] for rate in rates):
        openings = UNHEARD_OPENINGS if media == "audio" else UNSEEN_OPENINGS
        return f"{openings[tuple(rate['kind'] for rate in rates)]}, {found}."
    return f"{found[0].upper()}{found[1:]}, {KNOWN_ENDING}."


def advice(verdict: str, media: str = "image", reasons: Sequence[str] = ()) -> tuple[str, str, str]:
    """Return what to do now, in three lines."""
    suggestions = [suggestion_sentence(reason) for reason in reasons]
    search, warning = MEDIA[media].search_advice, WARNINGS[Verdict(verdict)].format(MEDIA[media].item)
    if not suggestions:
        return search, PUBLISHER_CHECK, warning
    if was_checked(reasons):
        return search, PUBLISHER_CHECK, f"{suggestions[0]} {warning}"
    return suggestions[0], search, PUBLISHER_CHECK


def error_rate_sentence(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return an error rate in sentences that say which kinds of files it was measured on.

    Examples:
        "In our test, 87 (70 to 106) in 1,000 deepfakes of kinds it had not seen scored this low. Measured on 1,204."
        "In our test, 21 (14 to 31) in 1,000 deepfakes scored this low. Measured on 1,204 of the collections it was
        trained on."

    Args:
        rate: the fields of an `ErrorRate`, as a record of the present version holds them.
        media: a key of `MEDIA`.
    """
    kind, medium = rate["kind"], MEDIA[media]
    found = format_per_thousand(rate["share"], rate["low"], rate["high"])
    files = medium.class_names[kind]
    if rate["unseen"]:
        files += f" {unseen_phrase(kind, media)}"
    source = "" if rate["unseen"] else f" {KNOWN_PHRASE}"
    cohort = medium.cohort_phrase if _has_size(rate) else ""
    measured = f"Measured on {format_count(rate['n'])}{source}{cohort}"
    return f"In our test, {found} in 1,000 {files} scored {SHORT_TAIL_PHRASES[kind]}. {measured}."


def unseen_phrase(kind: str, media: str = "image") -> str:
    """Return where the files of an unseen error rate come from.

    Args:
        kind: "real" or "fake".
        media: a key of `MEDIA`.
    """
    return (UNHEARD_PHRASES if media == "audio" else UNSEEN_PHRASES)[kind]


def size_sentence(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return which faces are "of this size" in `error_rate_sentence`; "" where the rate covers all sizes."""
    if not (MEDIA[media].cohort_phrase and _has_size(rate)):
        return ""
    return f"This size is a face of {format_face_sizes(rate)}."


def _has_size(rate: Mapping[str, Any]) -> bool:
    return bool(rate["min_px"]) or rate["max_px"] is not None


def error_rate_origin(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return where the scores of an error rate come from, and which files it says nothing about, in sentences.

    Args:
        rate: the fields of an `ErrorRate`, as a record of the present version holds them.
        media: a key of `MEDIA`.
    """
    item = MEDIA[media].item
    if rate["unseen"]:
        unknown = "its page, its speaker or its generator" if media == "audio" else "its kind or its source"
        return (
            f"The network that scored each {item} had not learned from {unknown}. "
            "The network behind this verdict is built alike, but has learned from all of them."
        )
    training = (
        "The network that scored each recording had not learned from its speaker or its generator."
        if media == "audio"
        else f"The {item}s of our test were not used in training."
    )
    return f"{training} Other collections were not measured, and new kinds of fakes may be missed more often."


def format_face_sizes(rate: Mapping[str, Any]) -> str:
    """Return the face sizes that an error rate covers, such as "96 to 159 pixels"."""
    smallest, too_large = rate["min_px"], rate["max_px"]
    if too_large is None:
        return f"{smallest} pixels or more" if smallest else "any number of pixels"
    return f"{smallest} to {too_large - 1} pixels" if smallest else f"up to {too_large - 1} pixels"
