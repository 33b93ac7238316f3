"""The plan of an archive, and the scan of one of its chunks.

The folder of the results holds a Parquet file for each chunk that is done. Its name is the chunk's number, so a chunk
that is scanned twice still has one row for each file. `_plan/` holds the plan and the paths of each chunk; readers of
Parquet pass over a name with such a front.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.archive.folders import ArchiveError, ResultFolder, list_files, local_copies
from detector.media import MEDIA
from detector.pipeline import Detector
from detector.reports.rows import SCAN_COLUMNS, ScanRow
from detector.results import DetectorError
from detector.version import __version__

SCAN_CHUNK = "detector.scan_chunk"  # the task's name
PLAN = "_plan/plan.json"
PLAN_VERSION = 1
CHUNK_FILES = 100
MIN_CHUNKS = 50  # of a small archive, so that every worker has some
CHUNK_BYTES = 256_000_000
MAX_FILE_S = 3600.0
SUFFIXES = frozenset().union(*(medium.suffixes for medium in MEDIA.values()))  # of files in folders
CRASHED = "The check of this file crashed twice, so there is no result."
TEXTS = {"path", "media", "verdict", "reasons", "sound_verdict", "error"}  # columns; the others hold numbers
COUNTS = {"faces", "real_n", "fake_n"}
SWITCHES = {"rates_unseen"}


@dataclass(frozen=True)
class Plan:
    """What is scanned, and how.

    Attributes:
        sources: the folders and files of the archive, as paths or addresses.
        every_s: seconds between the sampled frames of a video.
        sizes: number of files in each chunk.
    """

    sources: tuple[str, ...]
    every_s: float
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of files."""
        return sum(self.sizes)

    def missing(self, folder: ResultFolder) -> list[int]:
        """Return the numbers of the chunks that are not done."""
        names = folder.names()
        return [number for number in range(len(self.sizes)) if shard_name(number) not in names]


class FileTookTooLong(DetectorError):
    """The analysis of one file was stopped."""


def shard_name(number: int) -> str:
    """Return the name of a chunk's Parquet file."""
    return f"part-{number:06d}.parquet"


def make_plan(sources: Sequence[str], folder: ResultFolder, *, every_s: float) -> Plan:
    """Return the plan in the folder of the results; the first call lists the archive and writes it.

    Files that are added to the archive later are not in the plan.

    Args:
        sources: folders and files, as paths or fsspec addresses.
        folder: of the results.
        every_s: seconds between the sampled frames of a video.

    Raises:
        ArchiveError: there is no file, or the folder holds results of something else.
    """
    wanted = {"sources": list(sources), "every_s": every_s}
    found = folder.read_json(PLAN)
    if found is not None:
        if found["version"] != PLAN_VERSION or {name: found[name] for name in wanted} != wanted:
            raise ArchiveError(f"{folder.url} holds the results of another scan; choose another --out.")
        return Plan(tuple(found["sources"]), found["every_s"], tuple(found["sizes"]))
    files = [file for source in sources for file in list_files(source, SUFFIXES)]
    if not files:
        raise ArchiveError(f"There are no pictures, videos or recordings in {', '.join(sources)}.")
    chunks = _cut(dict(files))
    for number, paths in enumerate(chunks):
        folder.write_json(f"_plan/{number:06d}.json", paths)
    plan = Plan(tuple(sources), every_s, tuple(len(paths) for paths in chunks))
    folder.write_json(PLAN, {"version": PLAN_VERSION, **asdict(plan)})  # last: the plan is complete
    return plan


def scan_chunk(
    detector: Detector,
    out: str,
    number: int,
    *,
    is_repeated: bool = False,
    is_stopping: Callable[[], bool] = lambda: False,
    report: Callable[[ScanRow], None] = lambda _: None,
) -> bool:
    """Analyse the files of one chunk and write their rows, unless that was done.

    Args:
        detector: the loaded networks.
        out: folder or address of the results, with a plan.
        number: of the chunk.
        is_repeated: an earlier scan of this chunk was killed. Then it is noted which file is analysed, and a file that
            kills this one, too, is left out from then on.
        is_stopping: returns whether to stop; called before each file.
        report: called with each row.

    Returns:
        Whether the chunk is done; False if it was stopped.

    Raises:
        ArchiveError: there is no plan, or Parquet files cannot be written.
        OSError: files cannot be read or written.
    """
    folder = ResultFolder(out)
    if folder.has(shard_name(number)):
        return True
    plan, paths = folder.read_json(PLAN), folder.read_json(f"_plan/{number:06d}.json")
    if plan is None or paths is None:
        raise ArchiveError(f"{out} has no plan for the chunk {number}.")
    rows = []
    with _Notes(folder, number) if is_repeated else nullcontext() as notes:
        for index, (path, copy) in enumerate(zip(paths, local_copies(paths), strict=True)):
            if is_stopping():
                return False
            if notes is not None and not notes.begin(index):
                row = ScanRow(path, error=CRASHED)
            else:
                row = _scan_file(detector, path, copy, plan["every_s"])
            rows.append(row)
            report(row)
    folder.write(shard_name(number), to_parquet(rows))
    return True


def to_parquet(rows: Sequence[ScanRow]) -> bytes:
    """Return a Parquet file with the columns `SCAN_COLUMNS`; what is empty in the CSV is null.

    Raises:
        ArchiveError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ArchiveError("Parquet files need the packages of requirements-scale.txt: pyarrow is missing.") from error
    types = {
        name: pyarrow.string()
        if name in TEXTS
        else pyarrow.int64()
        if name in COUNTS
        else pyarrow.bool_()
        if name in SWITCHES
        else pyarrow.float64()
        for name in SCAN_COLUMNS
    }
    schema = pyarrow.schema(list(types.items()), metadata={"detector": __version__})
    values = zip(*(row.to_csv() for row in rows), strict=True)
    columns = {
        name: [_typed(name, value) for value in column] for name, column in zip(SCAN_COLUMNS, values, strict=True)
    }
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns, schema=schema), file, compression="zstd")
    return file.getvalue()


def count_outcomes(folder: ResultFolder, plan: Plan) -> Counter[str]:
    """Count the files of an archive by verdict, and as "error" those without one."""
    from pyarrow import parquet

    counts: Counter[str] = Counter()
    for number in range(len(plan.sizes)):
        table = parquet.read_table(io.BytesIO(folder.read(shard_name(number))), columns=["verdict"])
        counts.update(verdict or "error" for verdict in table["verdict"].to_pylist())
    return counts


class _Notes:
    """Notes on which file of a chunk is being analysed, for a scan that follows a killed one."""

    def __init__(self, folder: ResultFolder, number: int) -> None:
        self._folder, self._name = folder, f"_plan/{number:06d}.notes.json"
        found = folder.read_json(self._name) or {"begun": None, "crashed": []}
        self._crashed = [*found["crashed"], *([] if found["begun"] is None else [found["begun"]])]

    def begin(self, index: int) -> bool:
        """Note the file at `index`; return False if an earlier scan was killed at it."""
        is_allowed = index not in self._crashed
        self._folder.write_json(self._name, {"begun": index if is_allowed else None, "crashed": self._crashed})
        return is_allowed

    def __enter__(self) -> _Notes:
        return self

    def __exit__(self, *_: object) -> None:
        """Note that no file is being analysed; a process that is killed does not get here."""
        self._folder.write_json(self._name, {"begun": None, "crashed": self._crashed})


def _cut(sizes: dict[str, int]) -> list[list[str]]:
    """Cut the files, {path: size in bytes}, into chunks."""
    most = min(CHUNK_FILES, max(1, len(sizes) // MIN_CHUNKS))
    chunks: list[list[str]] = []
    size_bytes = 0
    for path, size in sizes.items():
        size_bytes += size
        if not chunks or size_bytes > CHUNK_BYTES or len(chunks[-1]) == most:
            chunks.append([])
            size_bytes = size
        chunks[-1].append(path)
    return chunks


def _scan_file(detector: Detector, path: str, copy: Path | None, every_s: float) -> ScanRow:
    until = time.monotonic() + MAX_FILE_S

    def check_time(_: float) -> None:
        if time.monotonic() > until:
            raise FileTookTooLong(f"The check of this file took over {MAX_FILE_S:.0f} s and was stopped.")

    if copy is None:
        return ScanRow(path, error="The file is gone.")
    try:
        return ScanRow(path, detection=detector.detect(copy, every_s=every_s, progress=check_time))
    except DetectorError as error:
        return ScanRow(path, error=str(error))
    except MemoryError:
        return ScanRow(path, error="There is not enough memory for this file.")


def _typed(name: str, value: str) -> Any:
    if value == "":
        return None
    if name in TEXTS:
        return value.encode("utf-8", "backslashreplace").decode()  # a name may hold bytes that are not Unicode
    return value == "true" if name in SWITCHES else int(value) if name in COUNTS else float(value)
