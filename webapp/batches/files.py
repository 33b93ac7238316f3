"""The files of one upload, one by one, and their submission as a batch."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import BinaryIO

from flask import current_app

from detector import DetectorError, UnreadableMedia
from detector.text import format_count, translatable
from webapp import analyses
from webapp.analyses import MEGABYTE, BatchPlace, clean_name, clean_path
from webapp.batches.archives import Archive, UploadLimits, is_system_file, is_zip
from webapp.models import Analysis, Batch, db
from webapp.statuses import status_of


@dataclass(frozen=True)
class UploadedFile:
    """A file of a request: the sender's name, with folders, and its bytes, seekable."""

    name: str
    stream: BinaryIO


@dataclass(frozen=True)
class RefusedFile:
    """A file of a batch that has no analysis.

    Attributes:
        position: among the files of the batch, from 0.
        filename: with its folders; only displayed.
        error: why it was refused, as a sentence.
        status: of HTTP, which the file on its own would have had.
    """

    position: int
    filename: str
    error: str
    status: int = 400


@dataclass(frozen=True)
class SentFile:
    """A file to be analysed, of a request or of a ZIP archive in it.

    Attributes:
        name: the sender's name, with folders.
        open: opens it; raises DetectorError if it cannot be read.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


class NothingAccepted(UnreadableMedia):
    """None of the files can be analysed.

    Args:
        message: a sentence for the person.
        refused: the files, with the reason of each.
    """

    def __init__(self, message: str, refused: Sequence[RefusedFile] = ()) -> None:
        super().__init__(message)
        self.refused = refused


def submit_upload(files: Sequence[UploadedFile], *, visitor: str) -> Analysis | Batch:
    """Submit the files of a request: one on its own, and several or a ZIP archive as a batch.

    Args:
        files: as sent, at least one.
        visitor: who may see the results.

    Raises:
        DetectorError: as `webapp.analyses.submit`, or as `submit_files`.
    """
    if not is_single(files):
        return submit_files(files, visitor=visitor)
    (file,) = files
    return analyses.submit(file.stream, filename=file.name, visitor=visitor)


def is_single(files: Sequence[UploadedFile]) -> bool:
    """Return whether an upload is one file and no ZIP archive, which is analysed on its own."""
    return len(files) == 1 and not is_zip(files[0].stream)


def submit_files(files: Sequence[UploadedFile], *, visitor: str) -> Batch:
    """Store the files of an upload, each with an analysis that waits; a file that is refused stops no other file.

    Args:
        files: as sent; ZIP archives are replaced by their files.
        visitor: who may see the results.

    Raises:
        MediaTooLarge: a limit of the upload is exceeded.
        NothingAccepted: every file is refused, so that nothing is stored.
    """
    sent = unpack(files)
    batch = Batch(visitor=visitor, name=_common_name(files))
    db.session.add(batch)
    db.session.commit()
    batch_id, refused = batch.id, []
    try:
        for position, each in enumerate(sent):
            try:
                with each.open() as file:
                    place = BatchPlace(batch_id, position)
                    analyses.submit(file, filename=each.name, visitor=visitor, place=place)
            except DetectorError as error:
                refused.append(RefusedFile(position, clean_path(each.name), str(error), status_of(error)))
        if len(refused) == len(sent):
            raise _nothing_accepted(refused)
        batch = db.session.get_one(Batch, batch_id)
        batch.refused = [asdict(each) for each in refused]
        db.session.commit()
    except BaseException:
        db.session.rollback()
        delete_batch(batch_id, visitor)
        raise
    return batch


def delete_batch(batch_id: str, visitor: str | None) -> None:
    """Delete a visitor's batch with all its analyses and files."""
    analyses.delete_several(visitor, analyses.ids_of_batch(batch_id, visitor))
    analyses.drop_empty_batches([batch_id])
    db.session.commit()


def unpack(files: Sequence[UploadedFile]) -> list[SentFile]:
    """Return the files of an upload in the order as sent, ZIP archives replaced by their files.

    A file in a ZIP archive gets the archive's name as its first folder, unless the archive was sent alone.

    Raises:
        MediaTooLarge: a limit of the upload is exceeded.
    """
    config = current_app.config
    limits = UploadLimits(config["MAX_BATCH_FILES"], config["MAX_BATCH_MB"] * MEGABYTE, config["MAX_ZIP_RATIO"])
    sent, size_bytes = [], 0
    for file in files:
        name, stream = file.name, file.stream
        if is_zip(stream):
            try:
                archive = Archive(stream, limits)
            except UnreadableMedia as error:
                sent.append(SentFile(name, partial(_refusing, str(error))))
                continue
            folder = "" if len(files) == 1 else f"{name}/"
            sent += [_of_archive(archive, member, folder) for member in archive.members]
            size_bytes += archive.size_bytes
        elif not is_system_file(name) or len(files) == 1:
            sent.append(SentFile(name, partial(_opened, stream)))
            size_bytes += stream.seek(0, io.SEEK_END)
    if not sent:
        raise NothingAccepted(translatable("There is no picture, video or recording in this folder."))
    limits.check(len(sent), size_bytes)
    return sent


def _of_archive(archive: Archive, member: zipfile.ZipInfo, folder: str) -> SentFile:
    return SentFile(folder + member.filename, partial(archive.unpacked, member))


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


@contextmanager
def _refusing(reason: str) -> Iterator[BinaryIO]:
    raise UnreadableMedia(reason)
    yield


def _common_name(files: Sequence[UploadedFile]) -> str:
    """Return the name of the ZIP archive or the folder that all files are in; "" if there is none."""
    if len(files) == 1:
        return clean_name(files[0].name)
    folders = {file.name.replace("\\", "/").rpartition("/")[0].partition("/")[0] for file in files}
    return clean_name(folders.pop()) if len(folders) == 1 and folders != {""} else ""


def _nothing_accepted(refused: Sequence[RefusedFile]) -> NothingAccepted:
    """Return an error with the reason, and with the name of the first file if the reasons differ."""
    if len({each.error for each in refused}) == 1:
        return NothingAccepted(refused[0].error, refused)
    sentence = translatable("None of the {count} files can be used. The first one is “{name}”.").format(
        count=format_count(len(refused)), name=refused[0].filename
    )
    return NothingAccepted(f"{sentence} {refused[0].error}", refused)
