"""Verdicts, reasons and numbers in plain words, for reports and pages alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.results import Reason, Verdict
from detector.text import format_count, format_estimate, format_percent

MEDIUM_NOUNS = {"image": "Image", "video": "Video", "audio": "Voice"}
HEADLINES = {
    Verdict.REAL: "This is a Real {}!",
    Verdict.DEEPFAKE: "This is a Deepfake {}!",
    Verdict.INCONCLUSIVE: "Inconclusive",
}
REASONS = {
    Reason.NO_FACE: "No face was found, and the detector has learned from faces only. The whole picture was scored, "
    "but that score decides nothing.",
    Reason.TOO_SMALL: "The face is too small in this picture: too few pixels are left to tell a real one from a fake. "
    "Try a larger copy.",
    Reason.TOO_BLURRED: "The face is too blurred: the fine detail that tells a real one from a fake is gone. "
    "Try a sharper copy.",
    Reason.TOO_DARK: "The face is too dark to be judged. Try a brighter copy.",
    Reason.TOO_MANY_FACES: "There are so many faces that one of them scores high by chance. "
    "Cut out the person you mean.",
    Reason.DRAWING: "This looks like a drawing or a painting; the detector has learned from photographs only.",
    Reason.BETWEEN_THRESHOLDS: "The score lies between the two thresholds, where the model is wrong too often to "
    "decide.",
    Reason.UNSTABLE: "The verdict changes when the same picture is saved again, so it would say more of the file "
    "than of the face.",
    Reason.TOO_FEW_FRAMES: "No face is in view long enough to be judged over several frames.",
    Reason.TOO_SHORT: "There is too little speech to be judged; a few seconds are needed.",
    Reason.SILENT: "There is no sound in this recording.",
    Reason.NOISY: "The voice is drowned in noise or music.",
    Reason.NO_SPEECH: "No speech was found in this recording.",
}
CLASS_NAMES = {
    "image": {"real": "real pictures", "fake": "deepfakes"},
    "audio": {"real": "real recordings", "fake": "fake recordings"},
}
COHORT_PHRASES = {"image": " with a face of this size", "audio": ""}  # which of the held-out ones are told of
TAIL_PHRASES = {"real": "this high or higher", "fake": "this low or lower"}  # what it takes to be as wrong


def headline(verdict: str, media: str = "image") -> str:
    """Return the words a verdict is announced with."""
    return HEADLINES[Verdict(verdict)].format(MEDIUM_NOUNS[media])


def reason_sentence(reason: str) -> str:
    """Return why a verdict was withheld, as a sentence."""
    return REASONS[Reason(reason)]


def error_rate_sentence(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return an error rate, a mapping as `ErrorRate.to_dict` makes it, as a sentence:
    "Of 1,204 held-out real pictures with a face of this size, 2.1% (1.4% to 3.1%) scored this high or higher."
    """
    kind, share = rate["kind"], format_estimate({**rate, "value": rate["share"]})
    if rate["share"] == 0:
        share = share.replace(format_percent(0), "none", 1)
    held_out = f"{format_count(rate['n'])} held-out {CLASS_NAMES[media][kind]}{COHORT_PHRASES[media]}"
    return f"Of {held_out}, {share} scored {TAIL_PHRASES[kind]}."


def format_face_sizes(rate: Mapping[str, Any]) -> str:
    """Return which faces an error rate is about, such as "96 to 159 pixels"."""
    smallest, too_large = rate["min_px"], rate["max_px"]
    if too_large is None:
        return f"{smallest} pixels or more" if smallest else "any number of pixels"
    return f"{smallest} to {too_large - 1} pixels" if smallest else f"up to {too_large - 1} pixels"
