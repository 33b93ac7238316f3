"""Words and formats of the pages only; those shared with reports are in `detector`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from detector import Verdict
from detector.evidence import DEGRADATION_LABELS
from detector.media import MEDIA
from detector.reports import (
    TAIL_PHRASES,
    error_rate_origin,
    error_rate_sentence,
    headline,
    map_caption,
    reason_sentence,
    size_sentence,
    was_checked,
)
from detector.text import (
    format_bytes,
    format_count,
    format_datetime,
    format_estimate,
    format_percent,
    format_probability,
)
from webapp.models import Analysis, State

SHORT_VERDICTS = {
    Verdict.REAL: "Real",
    Verdict.DEEPFAKE: "Deepfake",
    Verdict.INCONCLUSIVE: "Inconclusive",
}
WORK_HEADLINES = {
    State.WAITING: "Waiting for its turn",
    State.RUNNING: "Being checked",
    State.FAILED: "The check failed",
    State.CANCELLED: "Cancelled",
}
DEGRADATION_NAMES = {
    "stored": "unaltered",
    "jpeg50": "saved again as JPEG of quality 50",
    "half": "shrunk to half and enlarged again",
    "blur1": "blurred a little",
}


def short_verdict(verdict: str, reasons: Sequence[str] = ()) -> str:
    """Return a verdict in a word or two; `reasons` may say that nothing could be checked."""
    return SHORT_VERDICTS[Verdict(verdict)] if was_checked(reasons) else "Could not be checked"


def work_headline(analysis: Analysis) -> str:
    """Return the headline for an upload without a verdict."""
    return WORK_HEADLINES[State(analysis.state)]


def work_progress(analysis: Analysis, before: int) -> str:
    """Return the progress of an analysis, such as "42% done", or how many files are `before` it in the queue."""
    if analysis.state == State.RUNNING:
        return f"{analysis.progress:.0%} done"
    if not before:
        return "It starts in a moment."
    return f"{format_count(before)} {'file is' if before == 1 else 'files are'} before yours."


def passed_time(analysis: Analysis) -> str:
    """Return the time since a file was sent, such as "0:07"."""
    sent = analysis.created_at if analysis.created_at.tzinfo else analysis.created_at.replace(tzinfo=UTC)
    return format_timestamp(max(0.0, (datetime.now(UTC) - sent).total_seconds()))


def degradation_name(name: str) -> str:
    """Return a degradation in words; an unknown name is returned as it is."""
    return DEGRADATION_NAMES.get(name, name)


def degradation_label(name: str) -> str:
    """Return a degradation in a word or two, to fit beside a mark."""
    return DEGRADATION_LABELS.get(name, name)


def format_interval(measured: Mapping[str, Any], *, share: bool = True) -> str:
    """Return the interval of a measured value: "95% interval 2.2% to 4.3%, n = 1,784"."""
    parts = []
    if measured.get("low") is not None and measured.get("high") is not None:
        low, high = (format_estimate(measured[end], share=share) for end in ("low", "high"))
        parts.append(f"95% interval {low} to {high}")
    if measured.get("n"):
        parts.append(f"n = {format_count(measured['n'])}")
    return ", ".join(parts)


def tail_label(kind: str, media: str) -> str:
    """Return what an error rate counts: "Real pictures this high or higher"."""
    return f"{MEDIA[media].class_names[kind].capitalize()} {TAIL_PHRASES[kind]}"


def class_name(kind: str, media: str) -> str:
    """Return the name of a class of held-out files: "real pictures"."""
    return MEDIA[media].class_names[kind]


def format_duration(elapsed_ms: float) -> str:
    """Return a processing time, such as "84 ms" or "1.2 s"."""
    return f"{elapsed_ms / 1000:.1f} s" if elapsed_ms >= 1000 else f"{elapsed_ms:.0f} ms"


def format_timestamp(seconds: float) -> str:
    """Return a time in a recording, such as "0:07" or "1:02:30"."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def capitalize_first(words: str) -> str:
    """Return words with a capital first letter; names within them keep theirs."""
    return words[:1].upper() + words[1:]


FILTERS = (
    capitalize_first,
    headline,
    work_headline,
    work_progress,
    passed_time,
    short_verdict,
    reason_sentence,
    map_caption,
    was_checked,
    degradation_name,
    degradation_label,
    format_percent,
    format_probability,
    format_estimate,
    format_interval,
    error_rate_sentence,
    error_rate_origin,
    tail_label,
    class_name,
    size_sentence,
    format_count,
    format_bytes,
    format_duration,
    format_timestamp,
    format_datetime,
)
