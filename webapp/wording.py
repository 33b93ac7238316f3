"""What only the pages say, beside the words that `detector` shares with its reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector import (
    DELIVERY_LABELS,
    DIRECTIONS,
    KINDS,
    Verdict,
    count,
    estimate,
    face_sizes,
    headline,
    megabytes,
    moment,
    percent,
    probability,
    rate_sentence,
    reason_sentence,
)
from webapp.models import Analysis, State

SHORT_VERDICTS = {
    Verdict.REAL: "Real",
    Verdict.DEEPFAKE: "Deepfake",
    Verdict.INCONCLUSIVE: "Inconclusive",
}
WORK_HEADLINES = {
    State.WAITING: "Waiting for its turn",
    State.RUNNING: "Being judged",
    State.FAILED: "There is no verdict",
    State.CANCELLED: "Cancelled",
}
DELIVERIES = {
    "stored": "as stored",
    "jpeg50": "saved as JPEG of quality 50",
    "half": "halved in size and doubled again",
    "blur1": "blurred (sigma 1 pixel)",
}


def short_verdict(verdict: str) -> str:
    """Return a verdict in one word."""
    return SHORT_VERDICTS[Verdict(verdict)]


def work_headline(analysis: Analysis) -> str:
    """Return what is going on with an upload that has no verdict."""
    return WORK_HEADLINES[State(analysis.state)]


def work_progress(analysis: Analysis) -> str:
    """Return how far the judging is, such as "42% done"."""
    return f"{analysis.progress:.0%} done" if analysis.state == State.RUNNING else "It begins in a moment."


def delivery(name: str) -> str:
    """Return how a picture arrived in words; a name that is not known as it is."""
    return DELIVERIES.get(name, name)


def delivery_label(name: str) -> str:
    """Return the same in so few words that they fit beside a mark."""
    return DELIVERY_LABELS.get(name, name)


def interval(measured: Mapping[str, Any], *, share: bool = True) -> str:
    """Return what stands behind a measured value: "95% interval 2.2% to 4.3%, n = 1,784"."""
    parts = []
    if measured.get("low") is not None and measured.get("high") is not None:
        low, high = (estimate(measured[end], share=share) for end in ("low", "high"))
        parts.append(f"95% interval {low} to {high}")
    if measured.get("n"):
        parts.append(f"n = {count(measured['n'])}")
    return ", ".join(parts)


def counted(kind: str, media: str) -> str:
    """Return what an error rate counts: "Real pictures this high or higher"."""
    return f"{KINDS[media][kind].capitalize()} {DIRECTIONS[kind]}"


def kind_name(kind: str, media: str) -> str:
    """Return what the held-out files of a kind are called: "real pictures"."""
    return KINDS[media][kind]


def duration(elapsed_ms: float) -> str:
    """Return a processing time, such as "84 ms" or "1.2 s"."""
    return f"{elapsed_ms / 1000:.1f} s" if elapsed_ms >= 1000 else f"{elapsed_ms:.0f} ms"


def clock(seconds: float) -> str:
    """Return a time in a recording, such as "0:07" or "1:02:30"."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


FILTERS = (
    headline,
    work_headline,
    work_progress,
    short_verdict,
    reason_sentence,
    delivery,
    delivery_label,
    percent,
    probability,
    estimate,
    interval,
    rate_sentence,
    counted,
    kind_name,
    face_sizes,
    count,
    megabytes,
    duration,
    clock,
    moment,
)
