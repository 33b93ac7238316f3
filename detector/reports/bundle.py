"""The evidence bundle: one ZIP archive with all there is to say of a judged picture, and the check that it still holds.

`write_bundle` makes it, `verify_bundle` judges the original again and lists what differs. Bundles come from strangers:
nothing is unpacked onto the disk, sizes are bounded before anything is read, and names inside are only compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from detector.evidence.explanation_checks import measure_face_robustness
from detector.media.images import MAX_FILE_BYTES, encode_png
from detector.models.heatmaps import colour_heatmap
from detector.pictures.detect import PictureDetector
from detector.pictures.faces import finder_settings, whole_square
from detector.pictures.quality import MIN_FACE_PX
from detector.provenance.findings import read_provenance
from detector.reports.report import Evidence, make_report, render_html, render_pdf
from detector.results import MediaTooLarge, PictureDetection, UnreadableMedia
from detector.version import __version__

BUNDLE_VERSION = 1
RECORD = "detection.json"
README = (
    "This bundle holds the verdict of a deepfake detector on one picture: the report (report.html and, the same, "
    "report.pdf), every number behind it (detection.json), the heat maps and, unless it was left out, the picture as "
    "it was uploaded, with whatever its file says of people and places.\n"
    "With the same version of the detector, “python -m detector verify BUNDLE.zip” judges the picture again and says "
    "whether it comes to the same, the delivery test included; LIME and what became of the score when marked places "
    "were removed take hundreds of looks and are not tried again. Nothing here is signed, so compare what that prints "
    "with the report.\n"
)
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a ZIP archive knows; the same evidence makes the same bytes
SUFFIXES = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp",
    "image/tiff": "tif",
}  # fmt: skip
ORIGINALS = tuple(f"original.{suffix}" for suffix in SUFFIXES.values())
HEAT_DIGITS = 4

MAX_MEMBERS = 500  # a picture with 64 faces and two maps for each makes 135
MAX_DIRECTORY_BYTES = 100_000  # the list of members
MAX_BUNDLE_BYTES = MAX_FILE_BYTES + 100_000_000  # packed or unpacked: the largest original and all the rest
MAX_DIGITS = 20  # of a whole number in a record

# How far two runs may lie apart and still be the same. On 220 pictures of split=train (20 of each source and label) one
# and two threads gave equal bits; a processor held down to SSE 4.1 (by OPENCV_CPU_DISABLE and ONEDNN_MAX_CPU_ISA)
# gave equal crops and boxes, logits 9e-6 apart at most and heat 8e-6; Keras, on 55, logits 6e-6 and maps 4e-5. One
# value of a crop in 10,000 that is rounded to the next level, as another decoder might, moves the logit by 3e-3, and
# that is to be told.
LOGIT_TOLERANCE = 1e-3
BOX_TOLERANCE_PX = 1
TOLERANCES = {
    "logit": LOGIT_TOLERANCE,
    **dict.fromkeys(("probability", "detection_score", "heatmaps"), 1e-3),
    **dict.fromkeys(("box", "crop_box", "squares", "landmarks"), BOX_TOLERANCE_PX),
    **dict.fromkeys(("share", "low", "high"), 0.01),  # a probability that is rounded the other way takes in one more
}
LABELS = {
    "version": "version of the detector",
    "input.sha256": "SHA-256 of the original",
    "input.size_bytes": "size of the original in bytes",
    "model.sha256": "SHA-256 of the model",
    "detection.verdict": "verdict",
    "detection.probability": "probability",
    "detection.logit": "logit",
}
SHOWN_CHARACTERS = 80  # of a value that differs

_END, _WIDE_LOCATOR = b"PK\5\6", b"PK\6\7"  # of a ZIP archive: its last 22 bytes begin so; the other one stands before
_END_BYTES, _LOCATOR_BYTES = 22, 20
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(EOFError, OSError, ValueError, LookupError, OverflowError),
)


@dataclass(frozen=True, eq=False)
class Verification:
    """What became of a bundle's original when it was judged again.

    Attributes:
        differences: what is not as the bundle says, a sentence each; empty when all is the same.
        detection: the new verdict; None when the original cannot be read any more.
    """

    differences: tuple[str, ...]
    detection: PictureDetection | None


def build_bundle(evidence: Evidence, *, include_original: bool = True) -> bytes:
    """Make the evidence bundle of a judged picture; equal evidence makes equal bytes.

    Args:
        evidence: what is known of the picture.
        include_original: put the file itself into it, without which nobody else can verify it. It may say more than
            its sender knows, such as where it was taken.

    Returns:
        A ZIP archive: report.html, report.pdf, detection.json, maps/*.png, README.txt and the original.
    """
    report = make_report(evidence, version=__version__)
    files = {
        "README.txt": README.encode(),
        "report.html": render_html(report).encode(),
        "report.pdf": render_pdf(report),
        **_paint_maps(evidence),
    }
    about = {
        "filename": evidence.filename,
        "checked_at": evidence.checked_at.isoformat() if evidence.checked_at else None,
        "engine": evidence.engine,
        "explanations": [found.to_dict() for found in evidence.maps],
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    record = {"bundle_version": BUNDLE_VERSION, "about": about, "files": hashes, **_record(evidence)}
    files[RECORD] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    if include_original:
        files[f"original.{SUFFIXES[evidence.provenance.media_type]}"] = evidence.data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, ZIP_DATE)
            member.create_system = 3  # Unix, so that the line below means something, on every system
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return buffer.getvalue()


def verify_bundle(bundle: bytes, detector: PictureDetector, *, original: bytes | None = None) -> Verification:
    """Judge a bundle's original again and compare everything with what the bundle says.

    Args:
        bundle: what `write_bundle` made, or what somebody says it did.
        detector: which judges it.
        original: the file, for a bundle without it; when given, it is taken instead of the one inside.

    Raises:
        UnreadableMedia: not a bundle, damaged, or without an original.
        MediaTooLarge: it would unpack to more than any bundle holds.
    """
    with _open(bundle) as archive:
        record = _read_record(archive)
        differences = list(_file_differences(archive, record["files"]))
        if original is None:
            inside = [name for name in archive.namelist() if name in ORIGINALS]
            if len(inside) != 1:
                raise UnreadableMedia("The bundle does not hold the original; give it with --file.")
            original = _read(archive, inside[0])
    claimed = {key: value for key, value in record.items() if key not in ("bundle_version", "about", "files")}
    try:
        detection = detector.detect(original)
    except (UnreadableMedia, MediaTooLarge) as error:
        sha256 = claimed["input"].get("sha256") if isinstance(claimed.get("input"), dict) else None
        differences += _differences(sha256, hashlib.sha256(original).hexdigest(), "input.sha256")
        return Verification((*differences, f"The original cannot be judged: {error}"), None)
    provenance = read_provenance(original, image=detection.image)
    evidence = Evidence(
        data=original,
        detection=detection,
        provenance=provenance,
        spec=detector.engine.spec,
        stability=measure_face_robustness(detection, detector.engine) if "deliveries" in claimed else None,
    )
    found = json.loads(json.dumps(_record(evidence)))
    return Verification((*differences, *_differences(claimed, found)), detection)


def _record(evidence: Evidence) -> dict[str, Any]:
    """Return all that a second run has to come to: the same numbers, from the same input by the same steps."""
    detection, spec = evidence.detection, evidence.spec
    faces = detection.faces
    result = detection.to_dict()
    del result["elapsed_ms"]
    provenance = evidence.provenance.to_dict()
    source = {key: provenance.pop(key) for key in ("sha256", "size_bytes", "media_type")}
    squares = [face.crop_box for face in faces] or [whole_square(detection.width_px, detection.height_px)]
    stability = evidence.stability
    deliveries = {} if stability is None else {"deliveries": [one.to_dict() for one in stability.scores]}
    return {
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
        "heatmaps": [
            None if face.heatmap is None else np.round(face.heatmap.astype(float), HEAT_DIGITS).tolist()
            for face in faces
        ],
        "provenance": provenance,
        **deliveries,
    }


def _paint_maps(evidence: Evidence) -> dict[str, bytes]:
    maps = [
        ("class activation map", number, face.heatmap)
        for number, face in enumerate(evidence.detection.faces)
        if face.heatmap is not None
    ]
    maps += [(extra.title, extra.face, extra.heatmap) for extra in evidence.maps if extra.heatmap is not None]
    return {
        f"maps/{number:02d}-face-{face + 1}-{_slug(title)}.png": encode_png(colour_heatmap(heatmap))
        for number, (title, face, heatmap) in enumerate(maps, 1)
    }


def _slug(title: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))[:40] or "map"


# reading what somebody sent


def _open(bundle: bytes) -> zipfile.ZipFile:
    """Open a bundle after a look at its end, so that a list of millions of members is never built."""
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise MediaTooLarge(f"The bundle has {len(bundle):,} bytes; at most {MAX_BUNDLE_BYTES:,} are read.")
    end = bundle[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(_END):
        raise UnreadableMedia("The file is not an evidence bundle: it does not end as this program's ZIP archives do.")
    count, directory_bytes = struct.unpack_from("<HI", end, 10)
    is_wide = bundle[-_END_BYTES - _LOCATOR_BYTES :].startswith(_WIDE_LOCATOR)
    if count > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES or is_wide:
        raise MediaTooLarge(f"The bundle's list of files is too long; at most {MAX_MEMBERS} are read.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(bundle))
    except _ZIP_ERRORS as error:
        raise UnreadableMedia("The bundle is damaged: its list of files cannot be read.") from error
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_BUNDLE_BYTES:
        raise MediaTooLarge(f"The bundle would unpack to {unpacked:,} bytes; at most {MAX_BUNDLE_BYTES:,} are read.")
    if len({member.filename for member in members}) < len(members):
        raise UnreadableMedia("The bundle holds two files of the same name, so it is not as this program wrote it.")
    return archive


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member, of which no more is unpacked than its stated size; `_open` has added those up."""
    member = archive.getinfo(name)
    try:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
            raise ValueError(f"compressed by method {member.compress_type}")
        with archive.open(member) as file:
            return file.read(member.file_size)
    except _ZIP_ERRORS as error:
        raise UnreadableMedia(f"{_shown(name)} in the bundle is damaged, encrypted or packed in a rare way.") from error


def _read_record(archive: zipfile.ZipFile) -> dict[str, Any]:
    if RECORD not in archive.namelist():
        raise UnreadableMedia(f"The archive is not an evidence bundle: {RECORD} is missing.")
    try:
        record = json.loads(_read(archive, RECORD), parse_int=_read_whole, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableMedia(f"{RECORD} in the bundle cannot be read as JSON.") from error
    if not isinstance(record, dict) or record.get("bundle_version") != BUNDLE_VERSION:
        raise UnreadableMedia(f"{RECORD} in the bundle is not of version {BUNDLE_VERSION}.")
    if not isinstance(record.get("files"), dict) or not isinstance(record.get("about"), dict):
        raise UnreadableMedia(f"{RECORD} in the bundle does not say what else the bundle holds.")
    return record


def _read_whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")  # Python's reader would take NaN and Infinity


def _file_differences(archive: zipfile.ZipFile, hashes: dict[str, Any]) -> list[str]:
    found = {name for name in archive.namelist() if name != RECORD and name not in ORIGINALS}
    missing = [f"{_shown(name)} is missing from the bundle." for name in sorted(hashes.keys() - found)]
    added = [f"{_shown(name)} was not put into the bundle when it was made." for name in sorted(found - hashes.keys())]
    altered = [
        f"{_shown(name)} is not the file that was put into the bundle: its SHA-256 differs."
        for name in sorted(found & hashes.keys())
        if hashlib.sha256(_read(archive, name)).hexdigest() != hashes[name]
    ]
    return missing + added + altered


def _differences(recorded: Any, found: Any, path: str = "", tolerance: float = 0.0) -> list[str]:
    """Compare two JSON values and say what differs, a sentence each; numbers may lie apart by their TOLERANCES.

    Args:
        recorded: of the bundle, so it may be anything.
        found: of the new run.
        path: where in the record they stand, such as "detection.faces[0].logit".
        tolerance: of numbers at this place.
    """
    sentences = []
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*found, *recorded)):
            pair = recorded.get(key, _MISSING), found.get(key, _MISSING)
            sentences += _differences(*pair, f"{path}.{key}" if path else key, TOLERANCES.get(key, 0.0))
        return sentences
    is_list = isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found)
    if is_list and not all(map(_is_number, found)):
        for index, pair in enumerate(zip(recorded, found, strict=True)):
            sentences += _differences(*pair, f"{path}[{index}]", tolerance)
        return sentences
    pairs = zip(recorded, found, strict=True) if is_list else [(recorded, found)]
    if all(_is_same(one, other, tolerance) for one, other in pairs):
        return []
    name = LABELS.get(path) or (path if _PLAIN_PATH.fullmatch(path) else _shown(path))
    return [f"{name}: {_shown(recorded)} in the bundle, {_shown(found)} now."]


_MISSING = object()
_PLAIN_PATH = re.compile(r"[a-z0-9_.\[\]]{1,100}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(recorded: Any, found: Any, tolerance: float) -> bool:
    if _is_number(recorded) and _is_number(found):
        return abs(recorded - found) <= tolerance
    return type(recorded) is type(found) and recorded == found


def _shown(value: Any) -> str:
    """Return a value of unknown origin as one short printable line."""
    if value is _MISSING:
        return "nothing"
    if isinstance(value, dict) or (isinstance(value, list) and not all(map(_is_number, value))):
        return f"({len(value)} entries)"
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
