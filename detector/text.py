"""Format numbers, sizes and times as text, and make text of unknown origin safe to display."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

MAX_TEXT_CHARACTERS = 2_000  # displayed of a text of unknown origin
_ROUNDING = 1e-9  # of products of fractions and 1,000


def translatable(message: str) -> str:
    """Return a message as it is; the call marks it for the catalogues of the pages' languages."""
    return message


def format_percent(share: float) -> str:
    """Return a proportion in [0, 1] as a percentage with one decimal."""
    return f"{share:.1%}"


def format_probability(share: float) -> str:
    """Return a probability in [0, 1] as a percentage, with more digits near both ends and never 0% or 100%."""
    if share < 0.001:
        return "under 0.1%"
    if share > 0.999:
        return "over 99.9%"
    return f"{share:.1%}" if share < 0.1 or share > 0.9 else f"{share:.0%}"


def format_estimate(measured: Mapping[str, Any] | float, *, share: bool = True) -> str:
    """Return a measured value with its 95% interval, if it has one: "3.1% (2.2% to 4.3%)" or "0.912".

    Args:
        measured: the value, or a mapping with "value" and, if known, "low" and "high".
        share: whether the value is a proportion in [0, 1], to be shown as a percentage.
    """
    if not isinstance(measured, Mapping):
        return format_percent(measured) if share else f"{measured:.3f}"
    text = format_estimate(measured["value"], share=share)
    if measured.get("low") is None or measured.get("high") is None:
        return text
    low, high = (format_estimate(measured[end], share=share) for end in ("low", "high"))
    return f"{text} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


def format_per_thousand(share: float, low: float, high: float) -> str:
    """Return a proportion in [0, 1] and its 95% interval as numbers of 1,000: "87 (70 to 106)".

    The interval is rounded outward. A proportion that is positive but rounds to zero is "fewer than 1".
    """
    number = round(1000 * share)
    value = "none" if share == 0 else "fewer than 1" if number == 0 else f"{number:,}"
    start, stop = math.floor(1000 * low + _ROUNDING), math.ceil(1000 * high - _ROUNDING)
    return f"{value} ({start:,}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{stop:,})"


def format_per_hundred(share: float, high: float) -> str:
    """Return a proportion in [0, 1] as a number of 100; one that rounds to zero as "at most 2", by its upper limit.

    Args:
        share: the proportion.
        high: upper end of its 95% interval.
    """
    number = round(100 * share)
    return f"{number}" if number else f"at most {max(1, math.ceil(100 * high - _ROUNDING))}"


def format_count(number: int) -> str:
    """Return a number with commas between thousands."""
    return f"{number:,}"


def format_bytes(size_bytes: int) -> str:
    """Return a file size, such as "3.4 MB" or "12 kB"."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def format_datetime(when: datetime) -> str:
    """Return a date and time in UTC, such as "20 November 2026, 08:39 UTC"."""
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def sanitize_text(text: str) -> str:
    """Return a text of unknown origin as one line without control or invisible characters, shortened if too long."""
    kept = text[: 2 * MAX_TEXT_CHARACTERS]
    kept = "".join(" " if c.isspace() else c for c in kept if c.isspace() or unicodedata.category(c)[0] != "C")
    kept = " ".join(kept.split())
    if len(text) > 2 * MAX_TEXT_CHARACTERS or len(kept) > MAX_TEXT_CHARACTERS:
        return f"{kept[:MAX_TEXT_CHARACTERS]} … ({len(text):,} characters in all)"
    return kept
