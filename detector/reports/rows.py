"""Detections as rows: CSV for programs, JSON Lines, and lines for a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from detector.record import to_record
from detector.reports.phrases import KNOWN_PHRASE, SHORT_TAIL_PHRASES, unseen_phrase, was_checked
from detector.results import (
    ERROR_CLASS_BY_VERDICT,
    Detection,
    ErrorRate,
    PictureDetection,
    VideoDetection,
    VoiceDetection,
)

RATE_FIGURES = ("share", "low", "high", "n")
RATE_COLUMNS = (*(f"{kind}_{figure}" for kind in ("real", "fake") for figure in RATE_FIGURES), "rates_unseen")
SCAN_COLUMNS = (
    "path", "media", "verdict", "probability", "logit", "faces", "reasons", *RATE_COLUMNS, "duration_s",
    "sound_verdict", "sound_probability", "elapsed_ms", "error",
)  # fmt: skip
UNCHECKED = "could not be checked"  # in place of a verdict, on a terminal


@dataclass(frozen=True)
class ScanRow:
    """The result for one file: a detection, or the sentence that says why there is none."""

    path: str
    detection: Detection | None = None
    error: str | None = None

    def to_values(self) -> dict[str, Any]:
        """Return the record of the detection with the path and the error as JSON values; a missing value is None."""
        missing = dict.fromkeys(name for name in SCAN_COLUMNS if name not in RATE_COLUMNS)
        found = to_record(self.detection) if self.detection else {}
        return {**missing, **found, "path": self.path, "error": self.error}

    def to_json(self) -> str:
        """Return the file's JSON object on one line."""
        return json.dumps(self.to_values())

    def to_csv(self) -> list[str]:
        """Return the values of `SCAN_COLUMNS`."""
        detection = self.detection
        if detection is None:
            return [self.path, *[""] * (len(SCAN_COLUMNS) - 2), self.error or ""]
        rates = {rate.kind: rate for rate in detection.error_rates}
        sound = detection.sound if isinstance(detection, VideoDetection) else None
        faces = _count_faces(detection)
        return [
            self.path,
            detection.media,
            str(detection.verdict),
            f"{detection.probability:.6g}",
            f"{detection.logit:.6g}",
            "" if faces is None else str(faces),
            ";".join(detection.reasons),
            *(value for kind in ("real", "fake") for value in _rate_values(rates.get(kind))),
            str(detection.error_rates[0].unseen).lower() if detection.error_rates else "",
            f"{detection.duration_s:.2f}" if isinstance(detection, VideoDetection | VoiceDetection) else "",
            str(sound.verdict) if sound else "",
            f"{sound.probability:.6g}" if sound else "",
            f"{detection.elapsed_ms:.1f}",
            "",
        ]

    def to_line(self) -> str:
        """Return one printable line for a terminal, whatever the file's name holds."""
        detection, path = self.detection, escape_unprintable(self.path)
        if detection is None:
            return f"{'error':<20}  {'-':>6}  {'-':>7}  {path}: {escape_unprintable(self.error or '')}"
        reasons = f" ({', '.join(detection.reasons)})" if detection.reasons else ""
        rates = [
            _format_rate(rate, detection.media)
            for rate in detection.error_rates
            if rate.kind in ERROR_CLASS_BY_VERDICT[detection.verdict]
        ]
        faces = _count_faces(detection)
        found = "voice" if faces is None else f"{faces} face{'' if faces == 1 else 's'}"
        checked = was_checked(detection.reasons)
        verdict = detection.verdict if checked else UNCHECKED
        probability = f"{detection.probability:.3f}" if checked else "-"
        line = f"{verdict:<20}  {probability:>6}  {found:>7}  {path}{reasons}"
        return " - ".join([line, *rates])


def escape_unprintable(text: str) -> str:
    """Return a text with control characters and other unprintable characters as escapes, such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _count_faces(detection: Detection) -> int | None:
    if isinstance(detection, PictureDetection):
        return len(detection.faces)
    return len(detection.tracks) if isinstance(detection, VideoDetection) else None


def _rate_values(rate: ErrorRate | None) -> list[str]:
    """Return the values of a class's RATE_FIGURES."""
    if rate is None:
        return [""] * len(RATE_FIGURES)
    return [*(f"{value:.4f}" for value in (rate.share, rate.low, rate.high)), str(rate.n)]


def _format_rate(rate: ErrorRate, media: str) -> str:
    shown = f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"
    cohort = " of this size" if media == "image" else ""
    origin = unseen_phrase(rate.kind, media) if rate.unseen else KNOWN_PHRASE
    return f"{shown} of {rate.n:,} {rate.kind}s{cohort} {origin} scored {SHORT_TAIL_PHRASES[rate.kind]}"
