"""Verdicts, reasons and numbers in plain words, for reports and pages alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from detector.results import Reason, Verdict

MAX_TEXT_CHARACTERS = 2_000  # that are shown of a text of unknown origin

MEDIA = {"image": "Image", "video": "Video", "audio": "Voice"}
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
KINDS = {
    "image": {"real": "real pictures", "fake": "deepfakes"},
    "audio": {"real": "real recordings", "fake": "fake recordings"},
}
ALIKE = {"image": " with a face of this size", "audio": ""}  # which of the held-out ones are told of
DIRECTIONS = {"real": "this high or higher", "fake": "this low or lower"}  # what it takes to be as wrong


def headline(verdict: str, media: str = "image") -> str:
    """Return the words a verdict is announced with."""
    return HEADLINES[Verdict(verdict)].format(MEDIA[media])


def reason_sentence(reason: str) -> str:
    """Return why a verdict was withheld, as a sentence."""
    return REASONS[Reason(reason)]


def percent(share: float) -> str:
    """Return a share in [0, 1] as a percentage with one decimal."""
    return f"{share:.1%}"


def probability(share: float) -> str:
    """Return a probability in [0, 1] as a percentage, finer towards the ends and never 0% or 100%."""
    if share < 0.001:
        return "under 0.1%"
    if share > 0.999:
        return "over 99.9%"
    return f"{share:.1%}" if share < 0.1 or share > 0.9 else f"{share:.0%}"


def estimate(measured: Mapping[str, Any] | float, *, share: bool = True) -> str:
    """Return a measured value, with its 95% interval if it has one: "3.1% (2.2% to 4.3%)" or "0.912"."""
    if not isinstance(measured, Mapping):
        return percent(measured) if share else f"{measured:.3f}"
    text = estimate(measured["value"], share=share)
    if measured.get("low") is None or measured.get("high") is None:
        return text
    low, high = (estimate(measured[end], share=share) for end in ("low", "high"))
    return f"{text} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


def rate_sentence(rate: Mapping[str, Any], media: str = "image") -> str:
    """Return an error rate, a mapping as `ErrorRate.to_dict` makes it, as a sentence:
    "Of 1,204 held-out real pictures with a face of this size, 2.1% (1.4% to 3.1%) scored this high or higher."
    """
    kind, share = rate["kind"], estimate({**rate, "value": rate["share"]})
    if rate["share"] == 0:
        share = share.replace(percent(0), "none", 1)
    held_out = f"{count(rate['n'])} held-out {KINDS[media][kind]}{ALIKE[media]}"
    return f"Of {held_out}, {share} scored {DIRECTIONS[kind]}."


def face_sizes(rate: Mapping[str, Any]) -> str:
    """Return which faces an error rate is about, such as "96 to 159 pixels"."""
    smallest, too_large = rate["min_px"], rate["max_px"]
    if too_large is None:
        return f"{smallest} pixels or more" if smallest else "any number of pixels"
    return f"{smallest} to {too_large - 1} pixels" if smallest else f"up to {too_large - 1} pixels"


def count(number: int) -> str:
    """Return a number with its thousands set apart."""
    return f"{number:,}"


def megabytes(size_bytes: int) -> str:
    """Return a file size, such as "3.4 MB" or "12 kB"."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def moment(when: datetime) -> str:
    """Return a date and time in UTC, such as "20 November 2026, 08:39 UTC"."""
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def clean_text(text: str) -> str:
    """Return a text of unknown origin fit to be shown: one line, no control or invisible characters, not too long."""
    kept = text[: 2 * MAX_TEXT_CHARACTERS]
    kept = "".join(" " if c.isspace() else c for c in kept if c.isspace() or unicodedata.category(c)[0] != "C")
    kept = " ".join(kept.split())
    if len(text) > 2 * MAX_TEXT_CHARACTERS or len(kept) > MAX_TEXT_CHARACTERS:
        return f"{kept[:MAX_TEXT_CHARACTERS]} … ({len(text):,} characters in all)"
    return kept
