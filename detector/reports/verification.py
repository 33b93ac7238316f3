"""Verification of an evidence bundle: the original is analysed again, and every value is compared.

Bundles come from strangers: nothing but the original of a video or a recording is unpacked onto the disk, into a
temporary file of its own name. Sizes are limited before anything is read, and names inside are only compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from detector.evidence import measure_face_robustness
from detector.media import MEDIA
from detector.media.files import read_file, read_head
from detector.media.images import MAX_FILE_BYTES
from detector.media.kinds import sniff
from detector.models.spec import file_sha256
from detector.pipeline import Detector
from detector.provenance.findings import read_provenance
from detector.record import RECORD_VERSION, upgrade_error_rates
from detector.reports.bundle import MAX_ORIGINAL_BYTES, ORIGINAL_NAMES, RECORD_NAME, reproducible_values
from detector.reports.evidence import Evidence
from detector.results import Detection, MediaTooLarge, PictureDetection, UnreadableMedia, VideoDetection, VoiceDetection

MAX_MEMBERS = 500  # a picture with 64 faces and two maps for each has 135
MAX_DIRECTORY_BYTES = 100_000  # the list of members
MAX_UNPACKED_BYTES = MAX_FILE_BYTES + 100_000_000  # the largest picture and all the rest
MAX_BUNDLE_BYTES = MAX_ORIGINAL_BYTES + 100_000_000  # the largest video and all the rest
MAX_DIGITS = 20  # of a whole number in a record
MIN_STEP_S, MAX_STEP_S, DEFAULT_STEP_S = 0.04, 3600.0, 1.0  # between sampled frames of a video, as in `scan`

# Differences between two runs that count as the same. On 220 pictures of split=train (20 of each source and label), one
# and two threads gave equal bits. A processor limited to SSE 4.1 (by OPENCV_CPU_DISABLE and ONEDNN_MAX_CPU_ISA) gave
# equal crops and boxes, logits at most 9e-6 apart and heat 8e-6; Keras, on 55 pictures, logits 6e-6 and maps 4e-5.
# Rounding one value of a crop in 10,000 to the next level, as another decoder might, moves the logit by 3e-3: that
# has to be reported.
LOGIT_TOLERANCE = 1e-3
BOX_TOLERANCE_PX = 1
TOLERANCES = {
    "logit": LOGIT_TOLERANCE,
    **dict.fromkeys(("probability", "detection_score", "heatmaps"), 1e-3),
    **dict.fromkeys(("box", "crop_box", "squares", "landmarks"), BOX_TOLERANCE_PX),
    **dict.fromkeys(("share", "low", "high"), 0.01),  # a probability rounded the other way counts one more
    **dict.fromkeys(("duration_s", "timestamp_s", "start_s", "end_s", "shot_changes_s"), 1e-3),
}
LABELS = {
    "version": "version of the detector",
    "input.sha256": "SHA-256 of the original",
    "input.size_bytes": "size of the original in bytes",
    "model.sha256": "SHA-256 of the model",
    "sound_model.sha256": "SHA-256 of the voice model",
    "detection.verdict": "verdict",
    "detection.probability": "probability",
    "detection.logit": "logit",
}
MAX_QUOTED_CHARACTERS = 80  # of a value that differs

_ARCHIVE_END, _WIDE_LOCATOR = (
    b"PK\5\6",
    b"PK\6\7",
)  # signatures of the last 22 bytes of a ZIP archive, and of the ZIP64 record before
_END_BYTES, _LOCATOR_BYTES = 22, 20
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(EOFError, OSError, ValueError, LookupError, OverflowError),
)


@dataclass(frozen=True, eq=False)
class Verification:
    """The result of analysing a bundle's original again.

    Attributes:
        differences: a sentence for everything that differs from the bundle; empty if all is the same.
        detection: the new verdict; None if the original cannot be read any more.
        matches: a sentence for each part that is the same.
    """

    differences: tuple[str, ...]
    detection: Detection | None
    matches: tuple[str, ...] = ()


class _Difference(NamedTuple):
    """A value that differs: its path in the record, and a sentence."""

    path: str
    sentence: str


def verify_bundle(
    bundle: bytes | BinaryIO, detector: Detector, *, original: bytes | Path | None = None
) -> Verification:
    """Analyse a bundle's original again and compare all values with those in the bundle.

    Args:
        bundle: a ZIP archive that `build_bundle` or an older version of the detector made, or is said to have made:
            its bytes, or an open file that can seek.
        detector: analyses the original.
        original: the file, for a bundle without it; if given, it replaces the one inside.

    Raises:
        UnreadableMedia: not a bundle, damaged, of an unknown version, or without an original that can be opened.
        MediaTooLarge: the bundle would unpack to more than any bundle holds.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(_open(io.BytesIO(bundle) if isinstance(bundle, bytes) else bundle))
        record, version = _read_record(archive)
        of_files = _compare_files(archive, record["files"])
        if original is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            original = _take_original(archive, folder)
        elif isinstance(original, Path):
            read_head(original)  # a pipe or a device has no end
        claimed = _without_wording(_upgrade_bundle_record(record, version))
        try:
            evidence = _analyse_again(original, detector, claimed)
        except (UnreadableMedia, MediaTooLarge) as error:
            sha256 = claimed["input"].get("sha256") if isinstance(claimed.get("input"), dict) else None
            of_files += _compare(sha256, _sha256(original), "input.sha256")
            sentences = (*(one.sentence for one in of_files), f"The original could not be checked: {error}")
            return Verification(sentences, None)
        found = _without_wording(json.loads(json.dumps(reproducible_values(evidence))))
        differences = [*of_files, *_compare(claimed, found)]
        return Verification(
            tuple(one.sentence for one in differences),
            evidence.detection,
            tuple(_describe_matches(evidence, len(record["files"]), [one.path for one in differences])),
        )


def _take_original(archive: zipfile.ZipFile, folder: Path) -> bytes | Path:
    """Return the original of a picture, or the path of a copy of a video or a recording in a folder."""
    inside = [name for name in archive.namelist() if name in ORIGINAL_NAMES]
    if len(inside) != 1:
        raise UnreadableMedia("The bundle does not hold the original. Give it with --file.")
    if not _is_stored_recording(archive.getinfo(inside[0])):
        return _read(archive, inside[0])
    copy = folder / "original"
    try:
        with archive.open(inside[0]) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target)
    except _ZIP_ERRORS as error:
        raise UnreadableMedia(f"{_quote(inside[0])} in the bundle is damaged or encrypted.") from error
    return copy


def _is_stored_recording(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a video or sound that is not packed, so that it cannot unpack to more."""
    suffixes = {suffix for medium in MEDIA.values() if medium.has_duration for suffix in medium.media_types.values()}
    is_recording = member.filename in {f"original.{suffix}" for suffix in suffixes}
    return is_recording and member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size


def _analyse_again(original: bytes | Path, detector: Detector, claimed: Mapping[str, Any]) -> Evidence:
    if isinstance(original, Path) and sniff(read_head(original)).startswith("image/"):
        original = read_file(original, max_bytes=MAX_FILE_BYTES)
    detection = detector.detect(original, every_s=_claimed_step_s(claimed))
    spec = detector.engine_of(detection.media).spec
    if isinstance(detection, PictureDetection):
        assert isinstance(original, bytes)
        engine = detector.pictures.engine
        robustness = measure_face_robustness(detection, engine) if "robustness_scores" in claimed else None
        provenance = read_provenance(original, image=detection.image)
        return Evidence(data=original, detection=detection, spec=spec, provenance=provenance, robustness=robustness)
    has_sound = isinstance(detection, VideoDetection) and detection.sound is not None
    sound_spec = detector.engine_of("audio").spec if has_sound else None
    return Evidence(data=original, detection=detection, spec=spec, sound_spec=sound_spec)


def _claimed_step_s(claimed: Mapping[str, Any]) -> float:
    """Return the time between the sampled frames of a video, if the bundle states one that makes sense."""
    preprocessing = claimed.get("preprocessing")
    step_s = preprocessing.get("every_s") if isinstance(preprocessing, dict) else None
    if not isinstance(step_s, int | float) or not MIN_STEP_S <= step_s <= MAX_STEP_S:
        return DEFAULT_STEP_S
    return float(step_s)


def _sha256(original: bytes | Path) -> str:
    return hashlib.sha256(original).hexdigest() if isinstance(original, bytes) else file_sha256(original)


def _describe_matches(evidence: Evidence, file_count: int, different: list[str]) -> Iterator[str]:
    """Yield a sentence for each part of a bundle in which no path is different."""
    detection = evidence.detection
    for paths, sentence in (
        (("files",), f"All {file_count} files in the bundle are as they were when it was made."),
        (("input",), "The original is the file that was checked: its SHA-256 is the same."),
        (("model", "sound_model"), "The model is the same: its SHA-256 and its thresholds are."),
        (("detection.verdict", "detection.reasons"), f"The verdict is the same: {detection.verdict}."),
        (("detection.logit", "detection.probability"), f"The score is the same within {LOGIT_TOLERANCE:g}."),
        *_score_matches(detection),
        (("provenance",), "What the file states about its origin is the same." if evidence.provenance else ""),
        (("robustness_scores",), "The scores of the altered copies are the same." if evidence.robustness else ""),
    ):
        if sentence and not any(
            path == start or path.startswith((f"{start}.", f"{start}[")) for path in different for start in paths
        ):
            yield sentence


def _score_matches(detection: Detection) -> Iterator[tuple[tuple[str, ...], str]]:
    within = f"the same within {LOGIT_TOLERANCE:g}."
    match detection:
        case PictureDetection():
            count = len(detection.faces)
            yield ("detection.faces", "heatmaps"), f"The scores of all faces ({count}) are {within}"
        case VideoDetection():
            count = sum(len(track.frames) for track in detection.tracks)
            yield ("detection.tracks",), f"The scores of all faces in the sampled frames ({count}) are {within}"
            if detection.sound is not None:
                yield (
                    ("detection.sound",),
                    f"The scores of all parts of the sound ({len(detection.sound.segments)}) are {within}",
                )
        case VoiceDetection():
            yield ("detection.segments",), f"The scores of all parts ({len(detection.segments)}) are {within}"


def _record_version(record: Mapping[str, Any]) -> int:
    """Return the version of a bundle's record; in version 1 it stood under "bundle_version"."""
    version = record.get("record_version", record.get("bundle_version"))
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        raise UnreadableMedia(
            f"{RECORD_NAME} in the bundle is of an unknown version; this version of the detector reads versions 1 to "
            f"{RECORD_VERSION}."
        )
    return version


def _upgrade_bundle_record(record: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return the values that a second run has to reproduce, with the keys of the present version."""
    claimed = {key: value for key, value in record.items() if key not in ("bundle_version", "about", "files")}
    if version == RECORD_VERSION:
        return claimed
    with suppress(KeyError, TypeError, ValueError):  # a bundle from a stranger: nonsense becomes differences
        claimed["detection"] = upgrade_error_rates(claimed["detection"])
    claimed["record_version"] = RECORD_VERSION
    if version == 1 and "deliveries" in claimed:
        claimed["robustness_scores"] = claimed.pop("deliveries")
    return claimed


def _without_wording(values: dict[str, Any]) -> dict[str, Any]:
    """Reduce findings to their kinds: their sentences may be reworded, and the values behind them are compared."""
    provenance = values.get("provenance")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("findings"), list):
        return values
    kinds = [{"kind": found.get("kind")} if isinstance(found, dict) else found for found in provenance["findings"]]
    return {**values, "provenance": {**provenance, "findings": kinds}}


def _open(bundle: BinaryIO) -> zipfile.ZipFile:
    """Open a bundle after checking its end, so that a list of millions of members is never built."""
    size_bytes = bundle.seek(0, io.SEEK_END)
    if size_bytes > MAX_BUNDLE_BYTES:
        raise MediaTooLarge(f"The bundle has {size_bytes:,} bytes; at most {MAX_BUNDLE_BYTES:,} are read.")
    bundle.seek(max(0, size_bytes - _END_BYTES - _LOCATOR_BYTES))
    tail = bundle.read()
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(_ARCHIVE_END):
        raise UnreadableMedia("The file is not an evidence bundle: it does not end as its ZIP archives do.")
    count, directory_bytes = struct.unpack_from("<HI", end, 10)
    if count > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES or tail.startswith(_WIDE_LOCATOR):
        raise MediaTooLarge(f"The bundle's list of files is too long; at most {MAX_MEMBERS} are read.")
    try:
        archive = zipfile.ZipFile(bundle)
    except _ZIP_ERRORS as error:
        raise UnreadableMedia("The bundle is damaged: its list of files cannot be read.") from error
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members if not _is_stored_recording(member))
    if unpacked > MAX_UNPACKED_BYTES:
        raise MediaTooLarge(f"The bundle would unpack to {unpacked:,} bytes; at most {MAX_UNPACKED_BYTES:,} are read.")
    if len({member.filename for member in members}) < len(members):
        raise UnreadableMedia("The bundle holds two files of the same name, so the detector did not write it.")
    return archive


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member; no more is unpacked than its stated size, and `_open` has limited the sum of those."""
    member = archive.getinfo(name)
    try:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
            raise ValueError(f"compressed by method {member.compress_type}")
        with archive.open(member) as file:
            return file.read(member.file_size)
    except _ZIP_ERRORS as error:
        raise UnreadableMedia(
            f"{_quote(name)} in the bundle is damaged, encrypted or packed by an unsupported method."
        ) from error


def _read_record(archive: zipfile.ZipFile) -> tuple[dict[str, Any], int]:
    """Return the record and its version."""
    if RECORD_NAME not in archive.namelist():
        raise UnreadableMedia(f"The archive is not an evidence bundle: {RECORD_NAME} is missing.")
    try:
        record = json.loads(_read(archive, RECORD_NAME), parse_int=_read_whole, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableMedia(f"{RECORD_NAME} in the bundle cannot be read as JSON.") from error
    version = _record_version(record if isinstance(record, dict) else {})
    if not isinstance(record.get("files"), dict) or not isinstance(record.get("about"), dict):
        raise UnreadableMedia(f"{RECORD_NAME} in the bundle does not list the bundle's files.")
    return record, version


def _read_whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")  # Python's reader would accept NaN and Infinity


def _compare_files(archive: zipfile.ZipFile, hashes: dict[str, Any]) -> list[_Difference]:
    found = {name for name in archive.namelist() if name != RECORD_NAME and name not in ORIGINAL_NAMES}
    missing = [f"{_quote(name)} is missing from the bundle." for name in sorted(hashes.keys() - found)]
    added = [f"{_quote(name)} was not put into the bundle when it was made." for name in sorted(found - hashes.keys())]
    altered = [
        f"{_quote(name)} is not the file that was put into the bundle: its SHA-256 differs."
        for name in sorted(found & hashes.keys())
        if hashlib.sha256(_read(archive, name)).hexdigest() != hashes[name]
    ]
    return [_Difference("files", sentence) for sentence in missing + added + altered]


def _compare(recorded: Any, found: Any, path: str = "", tolerance: float = 0.0) -> list[_Difference]:
    """Compare two JSON values and return each difference beyond TOLERANCES.

    Args:
        recorded: from the bundle, so it may be anything.
        found: from the new run.
        path: of the values in the record, such as "detection.faces[0].logit".
        tolerance: for numbers at this path.
    """
    differences = []
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*found, *recorded)):
            pair = recorded.get(key, _MISSING), found.get(key, _MISSING)
            differences += _compare(*pair, f"{path}.{key}" if path else key, TOLERANCES.get(key, 0.0))
        return differences
    is_list = isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found)
    if is_list and not all(map(_is_number, found)):
        for index, pair in enumerate(zip(recorded, found, strict=True)):
            differences += _compare(*pair, f"{path}[{index}]", tolerance)
        return differences
    pairs = zip(recorded, found, strict=True) if is_list else [(recorded, found)]
    if all(_is_same(one, other, tolerance) for one, other in pairs):
        return []
    name = LABELS.get(path) or (path if _PLAIN_PATH.fullmatch(path) else _quote(path))
    return [_Difference(path, f"{name}: {_quote(recorded)} in the bundle, {_quote(found)} now.")]


_MISSING = object()
_PLAIN_PATH = re.compile(r"[a-z0-9_.\[\]]{1,100}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(recorded: Any, found: Any, tolerance: float) -> bool:
    if _is_number(recorded) and _is_number(found):
        return bool(abs(recorded - found) <= tolerance)
    return type(recorded) is type(found) and bool(recorded == found)


def _quote(value: Any) -> str:
    """Return a value of unknown origin as one short printable line."""
    if value is _MISSING:
        return "nothing"
    if isinstance(value, dict) or (isinstance(value, list) and not all(map(_is_number, value))):
        return f"({len(value)} entries)"
    text = json.dumps(value)
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]} …"
