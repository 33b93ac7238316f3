"""What a report, a bundle and a verification are made from: one analysed file with all that is known about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from detector.evidence import RobustnessResult
from detector.media.files import read_head
from detector.media.kinds import sniff
from detector.models.spec import ModelSpec, file_sha256
from detector.provenance.findings import Provenance
from detector.record import CheckedExplanation
from detector.reports.structure import ReportPicture, Section
from detector.results import Detection


@dataclass(frozen=True)
class InputFacts:
    """What identifies an analysed file."""

    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """Everything known about one analysed file.

    Attributes:
        data: the bytes of the file, or its path, which a long video needs.
        detection: the verdict.
        spec: of the network behind the verdict.
        provenance: what a picture's file states about its origin; None for a video or a recording.
        sound_spec: of the network that scored the sound of a video; None without sound.
        engine: which engine ran the network, "onnx" or "keras".
        filename: the sender's name for the file; only displayed.
        checked_at: when the file was analysed; None leaves it out.
        error_sentence: how often such a verdict is wrong, where the detection has no error rates.
        explanations: of a picture's first face, the class map first.
        robustness: result of a picture's robustness test; None if it was not run.
        pictures: further pictures of the file, such as a spectrogram.
        sections: further parts of the report.
    """

    data: bytes | Path
    detection: Detection
    spec: ModelSpec
    provenance: Provenance | None = None
    sound_spec: ModelSpec | None = None
    engine: str = "onnx"
    filename: str | None = None
    checked_at: datetime | None = None
    error_sentence: str | None = None
    explanations: tuple[CheckedExplanation, ...] = ()
    robustness: RobustnessResult | None = None
    pictures: tuple[ReportPicture, ...] = ()
    sections: tuple[Section, ...] = ()

    @cached_property
    def facts(self) -> InputFacts:
        """Hash, size and type of the file; a video or a recording is read once for them."""
        if self.provenance is not None:
            return InputFacts(self.provenance.sha256, self.provenance.size_bytes, self.provenance.media_type)
        media_type = sniff(read_head(self.data))
        if isinstance(self.data, bytes):
            return InputFacts(hashlib.sha256(self.data).hexdigest(), len(self.data), media_type)
        return InputFacts(file_sha256(self.data), self.data.stat().st_size, media_type)
