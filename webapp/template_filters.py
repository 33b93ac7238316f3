"""Words and formats of the pages only; those shared with reports are in `detector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from babel.dates import format_date

from detector import Verdict, text
from detector.evidence import DEGRADATION_LABELS
from detector.media import MEDIA
from detector.reports import (
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
    format_estimate,
    format_percent,
    format_probability,
    translatable,
)
from webapp.languages import SOURCE_LANGUAGE, page_language, translating
from webapp.models import Analysis, State

SHORT_VERDICTS = {
    Verdict.REAL: translatable("Real"),
    Verdict.DEEPFAKE: translatable("Deepfake"),
    Verdict.INCONCLUSIVE: translatable("Inconclusive"),
}
WORK_HEADLINES = {
    State.WAITING: translatable("Waiting for its turn"),
    State.RUNNING: translatable("Being checked"),
    State.FAILED: translatable("The check failed"),
    State.CANCELLED: translatable("Cancelled"),
}
TAIL_LABELS = {"real": translatable("{files} this high or higher"), "fake": translatable("{files} this low or lower")}
DEGRADATION_NAMES = {
    "stored": translatable("unaltered"),
    "jpeg50": translatable("saved again as JPEG of quality 50"),
    "half": translatable("shrunk to half and enlarged again"),
    "blur1": translatable("blurred a little"),
}
KIND_NAMES = {
    "gan": translatable("GAN"),
    "diffusion": translatable("diffusion"),
    "text-to-image": translatable("text-to-image"),
    "swap": translatable("face swap"),
    "talking head": translatable("talking head"),
    "photograph": translatable("photograph"),
    "video frame": translatable("video frame"),
    "text-to-speech": translatable("text-to-speech"),
    "voice conversion": translatable("voice conversion"),
    "vocoder": translatable("vocoder"),
    "codec": translatable("codec"),
    "classic": translatable("classic synthesis"),
}  # of fakes and of real pictures, by their names in the figures


def format_datetime(when: datetime) -> str:
    """Return a date and time in UTC, such as "20 November 2026, 08:39 UTC", with the month in the page's language."""
    language = page_language()
    if language == SOURCE_LANGUAGE:
        return text.format_datetime(when)
    return f"{format_date(when, 'long', language)}, {when:%H:%M} UTC"


def format_day(when: datetime) -> str:
    """Return a day in UTC, such as "20 November 2026", with the month in the page's language."""
    language = page_language()
    return f"{when.day} {when:%B %Y}" if language == SOURCE_LANGUAGE else format_date(when, "long", language)


def short_verdict(verdict: str, reasons: Sequence[str] = ()) -> str:
    """Return a verdict in a word or two; `reasons` may say that nothing could be checked."""
    return SHORT_VERDICTS[Verdict(verdict)] if was_checked(reasons) else translatable("Could not be checked")


def work_headline(analysis: Analysis) -> str:
    """Return the headline for an upload without a verdict."""
    return WORK_HEADLINES[State(analysis.state)]


def work_progress(analysis: Analysis, before: int) -> str:
    """Return the progress of an analysis, such as "42% done", or how many files are `before` it in the queue."""
    if analysis.state == State.RUNNING:
        return translatable("{percent} done").format(percent=f"{analysis.progress:.0%}")
    if not before:
        return translatable("It starts in a moment.")
    if before == 1:
        return translatable("1 file is before yours.")
    return translatable("{count} files are before yours.").format(count=format_count(before))


def passed_time(analysis: Analysis) -> str:
    """Return the time since a file was sent, such as "0:07"."""
    sent = analysis.created_at if analysis.created_at.tzinfo else analysis.created_at.replace(tzinfo=UTC)
    return format_timestamp(max(0.0, (datetime.now(UTC) - sent).total_seconds()))


def degradation_name(name: str) -> str:
    """Return a degradation in words; an unknown name is returned as it is."""
    return DEGRADATION_NAMES.get(name, name)


def kind_name(kind: str) -> str:
    """Return a kind of fakes or of real pictures in words; another one is returned as it is."""
    return KIND_NAMES.get(kind, kind)


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
    return TAIL_LABELS[kind].format(files=MEDIA[media].class_names[kind].capitalize())


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


def lowercase_first(words: str) -> str:
    """Return words with a small first letter; names and German nouns within them keep theirs."""
    return words[:1].lower() + words[1:]


TEXT_FILTERS: tuple[Callable[..., Any], ...] = (
    headline,
    work_headline,
    work_progress,
    passed_time,
    short_verdict,
    reason_sentence,
    map_caption,
    degradation_name,
    degradation_label,
    kind_name,
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
)
FILTERS: tuple[Callable[..., Any], ...] = (
    capitalize_first,
    lowercase_first,
    was_checked,
    format_datetime,
    format_day,
    *map(translating, TEXT_FILTERS),
)
