"""Submit, get, list and delete: the one path that every page takes."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TypeVar

from flask import Flask, current_app
from sqlalchemy import delete as delete_from
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

import detector
from detector import Detector, MediaTooLarge, ModelError, PictureDetection, UnreadableMedia
from webapp.config import StartupError
from webapp.models import Analysis, Upload, db
from webapp.samples import SAMPLES, read_sample
from webapp.storage import Storage
from webapp.wording import megabytes

PREVIEW_SIDE_PX = 1600
THUMBNAIL_SIDE_PX = 240
RECENT_ANALYSES = 12
MAX_NAME_CHARACTERS = 120
MEGABYTE = 1_000_000

Answer = TypeVar("Answer")

PICTURE = "picture.jpg"  # upright, so that every browser can show it
THUMBNAIL = "thumbnail.jpg"


class UnsupportedMedia(UnreadableMedia):
    """The bytes are of a kind that is not read at all."""


class SharedDetector:
    """The one detector of a worker, in a thread of its own that judges one picture after the other.

    That bounds memory: only one picture's pixels exist at a time, and the runtime's buffers and the allocator's
    leftovers belong to one thread instead of to each that serves a request. And OpenVINO 2026.4 stands still for ever
    when two threads make a process's first inference at once.

    Args:
        threads: for the network; 0 means as many as cores.
        detector: one that is loaded already; None loads the shipped one when it is first needed.
    """

    def __init__(self, *, threads: int = 0, detector: Detector | None = None) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detector")
        self._threads = threads or None
        self._detector = detector

    def call(self, work: Callable[[Detector], Answer]) -> Answer:
        """Return `work(detector)`, called in the detector's thread.

        Raises:
            ModelError: the model's file is missing or does not fit.
        """
        return self._thread.submit(lambda: work(self._load())).result()

    def _load(self) -> Detector:
        if self._detector is None:
            self._detector = detector.load_detector(threads=self._threads)
        return self._detector


def warm_up(app: Flask) -> None:
    """Load the detector now instead of at the first picture.

    Raises:
        StartupError: there is no usable model.
    """
    try:
        app.extensions["detector"].call(lambda _: None)
    except ModelError as error:
        raise StartupError(str(error)) from error


def submit(data: bytes, *, filename: str, visitor: str, sample: str | None = None) -> Analysis:
    """Judge a picture and keep the verdict; when anything fails nothing is kept.

    The picture is judged afresh even when the same bytes are stored already, so nobody learns whether they were.

    Args:
        data: the file's bytes.
        filename: as the sender calls it, only ever shown.
        visitor: who may see the result.
        sample: which of our own samples it is.

    Raises:
        MediaTooLarge: more bytes or pixels than are accepted.
        UnsupportedMedia: of a kind that is not read.
        UnreadableMedia: empty or damaged.
        ModelError: there is no usable model.
    """
    media_type = _check_media(data)
    analysis, files = current_app.extensions["detector"].call(lambda loaded: _judge(data, loaded))
    analysis.visitor = visitor
    analysis.filename = clean_name(filename)
    analysis.sample = sample
    _keep(analysis, data, media_type, files)
    return analysis


def submit_sample(name: str, *, visitor: str) -> Analysis:
    """Judge one of our own samples as if it had been uploaded.

    Args:
        name: a key of `SAMPLES`.
        visitor: who may see the result.
    """
    folder = Path(current_app.instance_path)
    data = current_app.extensions["detector"].call(lambda _: read_sample(name, folder))
    return submit(data, filename=SAMPLES[name].filename, visitor=visitor, sample=name)


def get(analysis_id: str, visitor: str | None) -> Analysis | None:
    """Return a visitor's analysis; None for somebody else's as for one that does not exist."""
    return db.session.scalar(select(Analysis).filter_by(id=analysis_id, visitor=visitor))


def recent(visitor: str | None) -> list[Analysis]:
    """Return a visitor's latest analyses, the newest first."""
    newest_first = select(Analysis).filter_by(visitor=visitor).order_by(Analysis.created_at.desc())
    return list(db.session.scalars(newest_first.limit(RECENT_ANALYSES)))


def delete(analysis_id: str, visitor: str | None) -> bool:
    """Delete a visitor's analysis, and its upload when no other analysis refers to it.

    Returns:
        Whether there was one; of two requests at once only one is told so.
    """
    sha256 = db.session.scalar(
        delete_from(Analysis).filter_by(id=analysis_id, visitor=visitor).returning(Analysis.upload_sha256)
    )
    if sha256 is None:
        db.session.rollback()
        return False
    _storage().delete(_folder(analysis_id))
    _release(sha256)
    db.session.commit()
    return True


def open_file(analysis: Analysis, name: str) -> BinaryIO:
    """Open what was derived from an analysed picture: `PICTURE`, `THUMBNAIL` or a `heatmap_name`.

    Raises:
        FileNotFoundError: there is none of this name, as for a face the network gives no heat map of.
    """
    return _storage().open(f"{_folder(analysis.id)}/{name}")


def heatmap_name(face: int) -> str:
    """Return the name of a face's heat map, a PNG over its crop box; faces are counted from 0."""
    return f"heatmap-{face}.png"


def clean_name(name: str) -> str:
    """Return a file name fit to be shown: no path, no control or invisible characters, not too long."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    name = " ".join(name.split())
    if len(name) > MAX_NAME_CHARACTERS:
        kept = MAX_NAME_CHARACTERS // 2
        name = f"{name[: kept - 1]}…{name[-kept:]}"
    return name or "unnamed"


def _check_media(data: bytes) -> str:
    limit_mb = current_app.config["MAX_UPLOAD_MB"]
    if len(data) > limit_mb * MEGABYTE:
        raise MediaTooLarge(f"The file has {megabytes(len(data))}; at most {limit_mb} MB are accepted.")
    try:
        return detector.sniff(data)
    except UnreadableMedia as error:
        if data:
            raise UnsupportedMedia(str(error)) from error
        raise


def _judge(data: bytes, loaded: Detector) -> tuple[Analysis, dict[str, bytes]]:
    """Return what the detector says and what the page shows of it; the pixels are gone afterwards."""
    detection = loaded.detect(data)
    calibration = loaded.engine.spec.calibration
    analysis = Analysis(
        upload_sha256=hashlib.sha256(data).hexdigest(),
        media=detection.media,
        verdict=str(detection.verdict),
        probability=detection.probability,
        threshold_real=calibration.threshold_real,
        threshold_fake=calibration.threshold_fake,
        elapsed_ms=detection.elapsed_ms,
        has_heatmaps=bool(detection.faces) and detection.faces[0].heatmap is not None,
        result=detection.to_dict(),
    )
    return analysis, _derive(detection)


def _derive(detection: PictureDetection) -> dict[str, bytes]:
    """Make what the result page shows: a copy every browser can show, a small one, a heat map for each face."""
    files = {
        PICTURE: detector.encode_jpeg(detection.image, max_side_px=PREVIEW_SIDE_PX),
        THUMBNAIL: detector.encode_jpeg(detection.image, max_side_px=THUMBNAIL_SIDE_PX),
    }
    for index, face in enumerate(detection.faces):
        if face.heatmap is not None:
            files[heatmap_name(index)] = detector.encode_png(detector.colour_heatmap(face.heatmap))
    return files


def _keep(analysis: Analysis, data: bytes, media_type: str, files: dict[str, bytes]) -> None:
    """Store rows and files in one transaction; the stack takes back what was done when a later step fails."""
    upload_path = _upload_path(analysis.upload_sha256)
    with ExitStack() as undo:
        undo.callback(db.session.rollback)
        if _claim(analysis.upload_sha256, len(data), media_type):
            undo.callback(_storage().delete, upload_path)
        _storage().save(upload_path, data)
        db.session.add(analysis)
        db.session.flush()
        undo.callback(_storage().delete, _folder(analysis.id))
        for name, content in files.items():
            _storage().save(f"{_folder(analysis.id)}/{name}", content)
        db.session.commit()
        undo.pop_all()


def _claim(sha256: str, size_bytes: int, media_type: str) -> bool:
    """Count one more reference and keep the row locked until the transaction ends; return whether the row is new.

    The transaction begins with a write, so a second worker waits here rather than acting on an old count.
    """
    while True:
        count_up = update(Upload).filter_by(sha256=sha256).values(reference_count=Upload.reference_count + 1)
        if db.session.execute(count_up).rowcount:
            return False
        try:
            with db.session.begin_nested():
                db.session.add(Upload(sha256=sha256, reference_count=1, size_bytes=size_bytes, media_type=media_type))
            return True
        except IntegrityError:  # another worker was first: count on its row
            continue


def _release(sha256: str) -> None:
    """Count one reference less; with the last one the row and the file go, while the row is still locked."""
    left = db.session.scalar(
        update(Upload)
        .filter_by(sha256=sha256)
        .values(reference_count=Upload.reference_count - 1)
        .returning(Upload.reference_count)
    )
    if left == 0:
        db.session.execute(delete_from(Upload).filter_by(sha256=sha256))
        _storage().delete(_upload_path(sha256))


def _upload_path(sha256: str) -> str:
    return f"uploads/{sha256}"


def _folder(analysis_id: str) -> str:
    return f"analyses/{analysis_id}"


def _storage() -> Storage:
    return current_app.extensions["storage"]
