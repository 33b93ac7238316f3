"""The evidence bundle of a file: one ZIP archive with the report, all values behind it, and the original."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any

from detector.media import MEDIA, encode_png
from detector.models.heatmaps import colour_heatmap
from detector.models.spec import ModelSpec
from detector.pictures.faces import finder_settings, whole_square
from detector.pictures.quality import MIN_FACE_PX
from detector.record import RECORD_VERSION, heatmaps_to_values, to_values
from detector.reports.evidence import Evidence
from detector.reports.phrases import method_name, was_checked
from detector.reports.rendering import render_html, render_pdf
from detector.reports.report import make_report
from detector.results import PictureDetection, VideoDetection
from detector.version import __version__

RECORD_NAME = "detection.json"
BUNDLE_README = (
    "This bundle holds the verdict of a deepfake detector on one file. report.html and report.pdf are the same "
    "report. detection.json has all values behind it. The folder maps has the heat maps of a picture. Unless it was "
    "left out, the file is here as it was uploaded, with all that it says about people and places.\n"
    "“python -m detector verify BUNDLE.zip” checks the file again. It says what is the same and what differs. Use the "
    "same version of the detector. The robustness test is repeated. LIME and the checks of the explanations are not, "
    "because they take hundreds of network runs. The bundle is not signed, so compare the output with the report.\n"
)
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest in a ZIP archive; the same evidence makes the same bytes
ORIGINAL_SUFFIXES = {
    media_type: suffix for medium in MEDIA.values() for media_type, suffix in medium.media_types.items()
}
ORIGINAL_NAMES = tuple(f"original.{suffix}" for suffix in ORIGINAL_SUFFIXES.values())
MAX_ORIGINAL_BYTES = 2_000_000_000  # larger files are left out, so that every program can open the archive


def build_bundle(evidence: Evidence, *, include_original: bool = True) -> bytes:
    """Make the evidence bundle of an analysed file; equal evidence makes equal bytes. See `write_bundle`."""
    buffer = io.BytesIO()
    write_bundle(evidence, buffer, include_original=include_original)
    return buffer.getvalue()


def write_bundle(evidence: Evidence, file: IO[bytes], *, include_original: bool = True) -> None:
    """Write the evidence bundle of an analysed file: a ZIP archive.

    It holds report.html, report.pdf, detection.json, README.txt, maps/*.png of a picture, and the original.

    Args:
        evidence: what is known about the file.
        file: open for writing.
        include_original: include the file itself, without which nobody else can verify the bundle. The file may hold
            more than its sender knows, such as where a picture was taken. A file over `MAX_ORIGINAL_BYTES` is left out.
    """
    report = make_report(evidence, version=__version__)
    files = {
        "README.txt": BUNDLE_README.encode(),
        "report.html": render_html(report).encode(),
        "report.pdf": render_pdf(report),
        **_paint_maps(evidence),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[RECORD_NAME] = render_json(evidence, hashes)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(_member(name), content)
        if include_original and evidence.facts.size_bytes <= MAX_ORIGINAL_BYTES:
            name = f"original.{ORIGINAL_SUFFIXES[evidence.facts.media_type]}"
            if isinstance(evidence.data, Path):  # videos and sound are compressed already
                with (
                    open(evidence.data, "rb") as source,
                    archive.open(_member(name, zipfile.ZIP_STORED), "w") as target,
                ):
                    shutil.copyfileobj(source, target)
            else:
                archive.writestr(_member(name), evidence.data)


def render_json(evidence: Evidence, files: dict[str, str] | None = None) -> bytes:
    """Return the values behind a report as JSON, which is also the record in a bundle.

    Args:
        evidence: what is known about the file.
        files: SHA-256 of the bundle's other files, by name.
    """
    about = {
        "filename": evidence.filename,
        "checked_at": evidence.checked_at.isoformat() if evidence.checked_at else None,
        "engine": evidence.engine,
        "explanations": [to_values(explanation) for explanation in evidence.explanations],
    }
    record = {"about": about, "files": files or {}, **reproducible_values(evidence)}
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def reproducible_values(evidence: Evidence) -> dict[str, Any]:
    """Return the values that a second analysis has to reproduce: the same numbers, from the same input and steps."""
    detection, spec = evidence.detection, evidence.spec
    result = to_values(detection)
    del result["elapsed_ms"]
    if result.get("sound"):
        del result["sound"]["elapsed_ms"]
    values = {
        "record_version": RECORD_VERSION,
        "version": __version__,
        "input": to_values(evidence.facts),
        "model": _model_values(spec, detection.model_sha256),
        "preprocessing": _preprocessing_values(evidence),
        "detection": result,
    }
    if isinstance(detection, PictureDetection):
        values["heatmaps"] = heatmaps_to_values(detection)
    if isinstance(detection, VideoDetection) and detection.sound is not None and evidence.sound_spec is not None:
        values["sound_model"] = _model_values(evidence.sound_spec, detection.sound.model_sha256)
    if evidence.provenance is not None:
        provenance = to_values(evidence.provenance)
        values["provenance"] = {key: provenance[key] for key in provenance if key not in values["input"]}
    if evidence.robustness is not None:
        values["robustness_scores"] = [to_values(score) for score in evidence.robustness.scores]
    return values


def _model_values(spec: ModelSpec, sha256: str) -> dict[str, Any]:
    return {"sha256": sha256, "network": spec.network, "calibration": vars(spec.calibration)}


def _preprocessing_values(evidence: Evidence) -> dict[str, Any]:
    detection, spec = evidence.detection, evidence.spec
    if not isinstance(detection, PictureDetection | VideoDetection):
        return dict(vars(spec.voice))
    faces = {
        "width_px": detection.width_px,
        "height_px": detection.height_px,
        "finder": finder_settings(),
        "min_face_px": MIN_FACE_PX,
        "crop_margin": spec.face.crop_margin,
        "input_size_px": spec.face.size_px,
    }
    if isinstance(detection, VideoDetection):
        return {**faces, "every_s": detection.every_s}
    squares = [face.crop_box for face in detection.faces] or [whole_square(detection.width_px, detection.height_px)]
    return {**faces, "squares": [list(square) for square in squares]}


def _paint_maps(evidence: Evidence) -> dict[str, bytes]:
    if not isinstance(evidence.detection, PictureDetection):
        return {}
    maps = [
        ("class_map", number, face.heatmap)
        for number, face in enumerate(evidence.detection.faces, 1)
        if face.heatmap is not None and was_checked(face.reasons)
    ]
    maps += [
        (explanation.method, 1, explanation.heatmap)
        for explanation in evidence.explanations
        if explanation.method != "class_map" and explanation.heatmap is not None
    ]
    return {
        f"maps/{number:02d}-face-{face}-{_slug(method_name(method))}.png": encode_png(colour_heatmap(heatmap))
        for number, (method, face, heatmap) in enumerate(maps, 1)
    }


def _slug(title: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))[:40] or "map"


def _member(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, ZIP_DATE)
    member.create_system = 3  # Unix, so that the permissions below mean the same on every system
    member.external_attr = 0o644 << 16
    member.compress_type = compression
    return member
