"""The evidence bundle of a picture: one ZIP archive with the report, all values behind it, and the original."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from typing import Any

from detector.media import MEDIA, encode_png
from detector.models.heatmaps import colour_heatmap
from detector.pictures.faces import finder_settings, whole_square
from detector.pictures.quality import MIN_FACE_PX
from detector.record import RECORD_VERSION, heatmaps_to_values, to_values
from detector.reports.phrases import method_name, was_checked
from detector.reports.rendering import render_html, render_pdf
from detector.reports.report import Evidence, make_report
from detector.version import __version__

RECORD_NAME = "detection.json"
BUNDLE_README = (
    "This bundle holds the verdict of a deepfake detector on one picture. report.html and report.pdf are the same "
    "report. detection.json has all values behind it, and the folder maps the heat maps. Unless it was left out, the "
    "picture is here as it was uploaded, with all that its file says about people and places.\n"
    "“python -m detector verify BUNDLE.zip” checks the picture again and prints “same” or the differences. Use the "
    "same version of the detector. The robustness test is repeated. LIME and the checks of the explanations are not, "
    "because they take hundreds of network runs. The bundle is not signed, so compare the output with the report.\n"
)
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest in a ZIP archive; the same evidence makes the same bytes
ORIGINAL_SUFFIXES = MEDIA["image"].media_types
ORIGINAL_NAMES = tuple(f"original.{suffix}" for suffix in ORIGINAL_SUFFIXES.values())


def build_bundle(evidence: Evidence, *, include_original: bool = True) -> bytes:
    """Make the evidence bundle of an analysed picture; equal evidence makes equal bytes.

    Args:
        evidence: what is known about the picture.
        include_original: include the file itself, without which nobody else can verify the bundle. The file may hold
            more than its sender knows, such as where the picture was taken.

    Returns:
        A ZIP archive: report.html, report.pdf, detection.json, maps/*.png, README.txt and the original.
    """
    report = make_report(evidence, version=__version__)
    files = {
        "README.txt": BUNDLE_README.encode(),
        "report.html": render_html(report).encode(),
        "report.pdf": render_pdf(report),
        **_paint_maps(evidence),
    }
    about = {
        "filename": evidence.filename,
        "checked_at": evidence.checked_at.isoformat() if evidence.checked_at else None,
        "engine": evidence.engine,
        "explanations": [to_values(explanation) for explanation in evidence.explanations],
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    record = {"about": about, "files": hashes, **reproducible_values(evidence)}
    files[RECORD_NAME] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    if include_original:
        files[f"original.{ORIGINAL_SUFFIXES[evidence.provenance.media_type]}"] = evidence.data
    return _pack(files)


def reproducible_values(evidence: Evidence) -> dict[str, Any]:
    """Return the values that a second analysis has to reproduce: the same numbers, from the same input and steps."""
    detection, spec = evidence.detection, evidence.spec
    result = to_values(detection)
    del result["elapsed_ms"]
    provenance = to_values(evidence.provenance)
    source = {key: provenance.pop(key) for key in ("sha256", "size_bytes", "media_type")}
    squares = [face.crop_box for face in detection.faces] or [whole_square(detection.width_px, detection.height_px)]
    robustness = evidence.robustness
    return {
        "record_version": RECORD_VERSION,
        "version": __version__,
        "input": source,
        "model": {
            "sha256": detection.model_sha256,
            "network": spec.network,
            "calibration": vars(spec.calibration),
        },
        "preprocessing": {
            "width_px": detection.width_px,
            "height_px": detection.height_px,
            "finder": finder_settings(),
            "min_face_px": MIN_FACE_PX,
            "crop_margin": spec.face.crop_margin,
            "input_size_px": spec.face.size_px,
            "squares": [list(square) for square in squares],
        },
        "detection": result,
        "heatmaps": heatmaps_to_values(detection),
        "provenance": provenance,
        **({} if robustness is None else {"robustness_scores": [to_values(score) for score in robustness.scores]}),
    }


def _paint_maps(evidence: Evidence) -> dict[str, bytes]:
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


def _pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, ZIP_DATE)
            member.create_system = 3  # Unix, so that the permissions below mean the same on every system
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return buffer.getvalue()
