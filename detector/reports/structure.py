"""A report before it is rendered: a neutral structure of words and pictures, for HTML and PDF alike."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

from detector.results import Verdict


@dataclass(frozen=True)
class ReportPicture:
    """A JPEG file with its caption."""

    jpeg: bytes
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class Entry:
    """A sentence in bold, and the lines below."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading, in this order; empty parts are left out."""

    title: str
    paragraphs: tuple[str, ...] = ()
    pictures: tuple[ReportPicture, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report before it is rendered.

    Attributes:
        verdict: sets the colour of the headline.
        headline, paragraphs: the summary.
        sections: the details.
        checked_at: when the file was analysed; None leaves it out.
    """

    verdict: Verdict
    headline: str
    paragraphs: tuple[str, ...]
    sections: tuple[Section, ...]
    checked_at: datetime | None
