"""Verdicts, reasons and error rates in plain words, for reports and pages alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detector.media import MEDIA
from detector.results import Reason, Verdict
from detector.text import format_count, format_per_hundred, format_per_thousand, translatable

HEADLINES = {
    Verdict.REAL: translatable("This is a Real {noun}!"),
    Verdict.DEEPFAKE: translatable("This is a Deepfake {noun}!"),
    Verdict.INCONCLUSIVE: translatable("Inconclusive"),
}
UNCHECKED_HEADLINE = translatable("Could not be checked: {reason}")
# Reasons for which nothing could be checked: as they end the headline. A score under one of them means nothing.
UNCHECKED_PHRASES = {
    Reason.NO_FACE: translatable("no face found"),
    Reason.TOO_SMALL: translatable("the face is too small"),
    Reason.TOO_BLURRED: translatable("the face is too blurred"),
    Reason.TOO_DARK: translatable("the face is too dark"),
    Reason.DRAWING: translatable("it seems to be a drawing"),
    Reason.TOO_FEW_FRAMES: translatable("no face is in view long enough"),
    Reason.TOO_SHORT: translatable("too little speech"),
    Reason.SILENT: translatable("there is no sound"),
    Reason.NOISY: translatable("noise or music covers the voice"),
    Reason.NO_SPEECH: translatable("no speech found"),
}
REASONS = {
    Reason.NO_FACE: translatable("No face was found, and the detector knows only faces."),
    Reason.TOO_SMALL: translatable(
        "The face is too small: it has too few pixels to distinguish a real one from a fake."
    ),
    Reason.TOO_BLURRED: translatable(
        "The face is too blurred: the fine detail that distinguishes a real one from a fake is gone."
    ),
    Reason.TOO_DARK: translatable("The face is too dark to be checked."),
    Reason.TOO_MANY_FACES: translatable("There are so many faces that one of them may score high by chance."),
    Reason.DRAWING: translatable("This seems to be a drawing or a painting, and the detector knows only photographs."),
    Reason.BETWEEN_THRESHOLDS: translatable(
        "The score lies between the two thresholds, where the detector is wrong too often to decide."
    ),
    Reason.UNSTABLE: translatable(
        "The verdict changes when the same picture is saved again, so it depends more on the file than on the face."
    ),
    Reason.TOO_FEW_FRAMES: translatable("No face is visible long enough to be checked in several frames."),
    Reason.TOO_SHORT: translatable("There is too little speech: a few seconds are needed."),
    Reason.SILENT: translatable("There is no sound in this recording."),
    Reason.NOISY: translatable("Noise or music covers the voice."),
    Reason.NO_SPEECH: translatable("No speech was found in this recording."),
}
SUGGESTIONS = {  # what to try instead
    Reason.NO_FACE: translatable("Try a file that shows the face larger and from the front."),
    Reason.TOO_SMALL: translatable("Try a larger copy, or the original picture before it was shrunk."),
    Reason.TOO_BLURRED: translatable("Try a sharper copy, or the original file from the camera."),
    Reason.TOO_DARK: translatable("Try a brighter copy."),
    Reason.TOO_MANY_FACES: translatable("Crop the picture to the person you mean."),
    Reason.DRAWING: translatable("Try a photograph of the person."),
    Reason.BETWEEN_THRESHOLDS: translatable("Try a better or unedited copy, such as the original file."),
    Reason.UNSTABLE: translatable("Try the original file, before it was saved again."),
    Reason.TOO_FEW_FRAMES: translatable("Try a longer part of the video in which the face stays in view."),
    Reason.TOO_SHORT: translatable("Try a longer part of the recording."),
    Reason.SILENT: translatable("Check whether the file plays with sound, and try another copy."),
    Reason.NOISY: translatable("Try a part without music or noise."),
    Reason.NO_SPEECH: translatable("Try a part in which one person speaks clearly."),
}
TAIL_PHRASES = {"real": "this high or higher", "fake": "this low or lower"}  # a score at least as wrong, by class
SHORT_TAIL_PHRASES = {"real": translatable("this high"), "fake": translatable("this low")}
RATE_SENTENCE = translatable("In our test, {found} in 1,000 {files} scored {how}.")
# Where the files of an error rate come from, by class.
UNSEEN_PHRASES = {"real": "from sources it had not seen", "fake": "of kinds it had not seen"}
UNHEARD_PHRASES = {"real": "of speakers it had not heard", "fake": "of generators it had not heard"}  # for voices
UNHEARD_FILES = {
    "real": translatable("{files} of speakers it had not heard"),
    "fake": translatable("{files} of generators it had not heard"),
}
UNSEEN_FILES = {
    "real": translatable("{files} from sources it had not seen"),
    "fake": translatable("{files} of kinds it had not seen"),
}
UNMEASURED = translatable("How often such a verdict is wrong has not been measured for this model.")
# Where the files of an error rate come from, in the sentence under the headline: by the classes it names.
UNSEEN_LIKENESS = {
    ("real",): translatable("On sources it had not seen, {found}."),
    ("fake",): translatable("On kinds of fakes it had not seen, {found}."),
    ("real", "fake"): translatable("On kinds and sources it had not seen, {found}."),
}
UNHEARD_LIKENESS = {
    ("real",): translatable("On speakers it had not heard, {found}."),
    ("fake",): translatable("On generators it had not heard, {found}."),
    ("real", "fake"): translatable("On generators and speakers it had not heard, {found}."),
}
KNOWN_SENTENCE = translatable("{found}, measured only on the collections it was trained on.")
# How a wrong file looked or sounded, by its class.
LIKENESS_PARTS = {
    ("real", "looked"): translatable("{number} of 100 {files} looked this fake"),
    ("fake", "looked"): translatable("{number} of 100 {files} looked this real"),
    ("real", "sounded"): translatable("{number} of 100 {files} sounded this fake"),
    ("fake", "sounded"): translatable("{number} of 100 {files} sounded this real"),
}
# Both, as `verdict_error_sentence` joins them.
LIKENESS_PAIRS = (
    translatable("{reals} of 100 {real_files} looked this fake and {fakes} of 100 {fake_files} looked this real"),
    translatable("{reals} of 100 {real_files} sounded this fake and {fakes} of 100 {fake_files} sounded this real"),
)
PUBLISHER_CHECK = translatable("Check who published it first, and whether a source you trust confirms it.")
WARNINGS = {
    Verdict.REAL: translatable("Do not take this as proof: new kinds of fakes can be missed."),
    Verdict.DEEPFAKE: translatable(
        "Do not accuse anyone on this result alone: real {item}s are sometimes called fake."
    ),
    Verdict.INCONCLUSIVE: translatable("Do not accuse anyone on this result alone."),
}
KNOWN_PHRASE = "of the collections it was trained on"
# By what follows the number: where the files come from, and of which size they are.
MEASURED_SENTENCES = {
    "": translatable("Measured on {n}."),
    " of the collections it was trained on": translatable("Measured on {n} of the collections it was trained on."),
    " with a face of this size": translatable("Measured on {n} with a face of this size."),
    " of the collections it was trained on with a face of this size": translatable(
        "Measured on {n} of the collections it was trained on with a face of this size."
    ),
}
MAP_CHECKS = {
    None: translatable("Not tested: we do not know whether the score depends on these areas."),
    True: translatable("Tested: blurring these areas lowers the score more than blurring others."),
    False: translatable("Tested: the score does not depend on these areas, so do not rely on this map."),
}
METHOD_NAMES = {
    "class_map": translatable("Class activation map"),
    "grad_cam": translatable("Grad-CAM"),
    "lime": translatable("LIME"),
}


def was_checked(reasons: Sequence[str]) -> bool:
    """Return whether a file, face or voice with these reasons was checked at all, so that its score has a meaning."""
    return UNCHECKED_PHRASES.keys().isdisjoint(map(Reason, reasons))


def headline(verdict: str, media: str = "image", reasons: Sequence[str] = ()) -> str:
    """Return the headline of a verdict, or the first reason why nothing could be checked."""
    unchecked = [UNCHECKED_PHRASES[Reason(reason)] for reason in reasons if not was_checked([reason])]
    if unchecked:
        return UNCHECKED_HEADLINE.format(reason=unchecked[0])
    return HEADLINES[Verdict(verdict)].format(noun=MEDIA[media].noun)


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
    parts = [
        LIKENESS_PARTS[rate["kind"], verb].format(
            number=format_per_hundred(rate["share"], rate["high"]), files=MEDIA[media].class_names[rate["kind"]]
        )
        for rate in rates
    ]
    found = " and ".join(parts)
    if all(rate["unseen"] for rate in rates):
        sentences = UNHEARD_LIKENESS if media == "audio" else UNSEEN_LIKENESS
        return sentences[tuple(rate["kind"] for rate in rates)].format(found=found)
    return KNOWN_SENTENCE.format(found=f"{found[0].upper()}{found[1:]}")


def advice(verdict: str, media: str = "image", reasons: Sequence[str] = ()) -> tuple[str, str, str]:
    """Return what to do now, in three lines."""
    suggestions = [suggestion_sentence(reason) for reason in reasons]
    search, warning = MEDIA[media].search_advice, WARNINGS[Verdict(verdict)].format(item=MEDIA[media].item)
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
        files = (UNHEARD_FILES if media == "audio" else UNSEEN_FILES)[kind].format(files=files)
    source = "" if rate["unseen"] else f" {KNOWN_PHRASE}"
    cohort = medium.cohort_phrase if _has_size(rate) else ""
    measured = MEASURED_SENTENCES[source + cohort].format(n=format_count(rate["n"]))
    sentence = RATE_SENTENCE.format(found=found, files=files, how=SHORT_TAIL_PHRASES[kind])
    return f"{sentence} {measured}"


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
    return translatable("This size is a face of {sizes}.").format(sizes=format_face_sizes(rate))


def _has_size(rate: Mapping[str, Any]) -> bool:
    return bool(rate["min_px"]) or rate["max_px"] is not None


def error_rate_origin(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return where the scores of an error rate come from, and which files it says nothing about, in sentences.

    Args:
        rate: the fields of an `ErrorRate`, as a record of the present version holds them.
        media: a key of `MEDIA`.
    """
    item = MEDIA[media].item
    if rate["unseen"] and media == "audio":
        return translatable(
            "The network that scored each recording had not learned from its page, its speaker or its generator. "
            "The network behind this verdict is built alike, but has learned from all of them."
        )
    if rate["unseen"]:
        return translatable(
            "The network that scored each {item} had not learned from its kind or its source. "
            "The network behind this verdict is built alike, but has learned from all of them."
        ).format(item=item)
    training = (
        translatable("The network that scored each recording had not learned from its speaker or its generator.")
        if media == "audio"
        else translatable("The {item}s of our test were not used in training.").format(item=item)
    )
    limit = translatable("Other collections were not measured, and new kinds of fakes may be missed more often.")
    return f"{training} {limit}"


def format_face_sizes(rate: Mapping[str, Any]) -> str:
    """Return the face sizes that an error rate covers, such as "96 to 159 pixels"."""
    smallest, too_large = rate["min_px"], rate["max_px"]
    if too_large is None:
        return (
            translatable("{least} pixels or more").format(least=smallest)
            if smallest
            else translatable("any number of pixels")
        )
    if smallest:
        return translatable("{least} to {most} pixels").format(least=smallest, most=too_large - 1)
    return translatable("up to {most} pixels").format(most=too_large - 1)
