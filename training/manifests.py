"""Lists of labelled pictures: reading, writing, cutting by group, and the faces in them.

A manifest is a CSV file with the columns path, label (1 = fake), source, generator, group and split; paths are
relative to it. Everything that shares a `group` (the copies of one picture, the frames of one video) stays on one
side of every cut.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.media.images import read_image
from detector.pictures.faces import FaceFinder, crop_square, finder_settings, whole_square
from detector.results import DetectorError

ROOT = Path(__file__).resolve().parents[1]
MANIFEST_COLUMNS = ("path", "label", "source", "generator", "group", "split")
CACHE = ROOT / ".cache"
CALIBRATION_PROPORTION = 0.1  # of the training groups
CALIBRATION_SEED = (
    1  # fixed: a run that starts from another run's weights must be tuned on what neither has learned from
)


@dataclass(frozen=True)
class Example:
    """One labelled picture; `label` 1 = fake, `split` train or val."""

    path: Path
    label: int
    source: str
    generator: str
    group: str
    split: str


@dataclass(frozen=True, eq=False)
class LocatedFace:
    """The largest face of an example: `box` (4,), `landmarks` (5, 2) or None when the whole picture is taken."""

    box: np.ndarray
    landmarks: np.ndarray | None


def read_manifest(path: Path) -> list[Example]:
    """Read a manifest.

    Raises:
        SystemExit: it is missing, a column or a value is, or a label is not 0 or 1; with a sentence.
    """
    if not path.is_file():
        raise SystemExit(f"There is no manifest {path}. Make one with: python scripts/generate_synthetic_data.py")
    with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet puts a mark in front
        rows = list(csv.DictReader(file))
    if not rows or not set(MANIFEST_COLUMNS) <= set(rows[0]):
        raise SystemExit(f"The manifest {path} is empty or lacks one of the columns {', '.join(MANIFEST_COLUMNS)}.")
    if any(not row[name] for row in rows for name in ("path", "group", "split")):
        raise SystemExit(f"Every row of the manifest {path} needs a path, a group and a split.")
    if wrong := {row["label"] or "nothing" for row in rows} - {"0", "1"}:
        raise SystemExit(f"Labels are 0 (real) or 1 (fake); the manifest {path} has {', '.join(sorted(wrong))}.")
    splits: dict[str, str] = {}
    for row in rows:
        if splits.setdefault(row["group"], row["split"]) != row["split"]:
            raise SystemExit(f"The group {row['group']} of the manifest {path} lies in two splits; it must be in one.")
    return [
        Example(path.parent / row["path"], int(row["label"]), *(row[name] for name in MANIFEST_COLUMNS[2:]))
        for row in rows
    ]


def write_manifest(path: Path, examples: Iterable[Example]) -> None:
    """Write a manifest in one go: a reader sees the old one or the new one."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(MANIFEST_COLUMNS)
            for example in examples:
                relative = Path(os.path.relpath(example.path, path.parent)).as_posix()
                writer.writerow([relative, example.label, *(getattr(example, name) for name in MANIFEST_COLUMNS[2:])])

    replace_file(path, write)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and move it into place, so that no stop leaves half of it.

    Args:
        path: where the file belongs.
        write: writes it to the path it is given, which keeps the suffix.
    """
    part = path.with_name(f"part-{path.name}")
    write(part)
    part.replace(path)


def split_by_group(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Cut examples in two by group: about `share` of the groups go to the second part.

    Which side a group falls on depends on its name and the seed alone, so adding pictures moves no other ones, but
    for the one group a label that is moved where a side would be left without that label.

    Raises:
        SystemExit: a label has fewer than two groups.
    """
    draws = {example.group: _draw(example.group, seed) for example in examples}
    second = {group for group, draw in draws.items() if draw < share}
    labelled = [{example.group for example in examples if example.label == label} for label in (0, 1)]
    for groups, others, kind in zip(labelled, labelled[::-1], ("real", "fake"), strict=True):
        if len(groups) < 2:
            raise SystemExit(
                f"At least 2 different {kind} pictures are needed, {len(groups)} found: "
                "one to learn from, one to check on."
            )
        # Moving a group that holds both labels could leave the other label on one side only.
        movable = groups - others or groups
        if not groups & second:
            second.add(min(movable, key=draws.get))
        if groups <= second:
            second.discard(max(movable, key=draws.get))
    return [e for e in examples if e.group not in second], [e for e in examples if e.group in second]


def split_train_calibration(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Cut the train split of a manifest into what networks learn from (fit) and what settings are chosen on (tune)."""
    return split_by_group(
        [example for example in examples if example.split == "train"], CALIBRATION_PROPORTION, CALIBRATION_SEED
    )


def locate_faces(examples: list[Example], *, threads: int = 2) -> list[LocatedFace]:
    """Find the largest face of every example, remembering the answers between runs.

    Pictures that cannot be read stop the run: a training set with holes is a mistake to be seen.
    """
    CACHE.mkdir(exist_ok=True)
    cache = CACHE / "faces.npz"
    known = _read_cache(cache)
    keys = [_file_key(example.path) for example in examples]

    def locate(index: int) -> np.ndarray:
        try:
            image = read_image(examples[index].path)
        except DetectorError as error:
            raise SystemExit(f"{examples[index].path}: {error}") from error
        faces = finder.find_faces(image)
        if not faces:
            height, width = image.shape[:2]
            return np.array([0, 0, width, height], np.float32)
        return np.concatenate([faces[0].box, faces[0].landmarks.ravel()])

    missing = [index for index, key in enumerate(keys) if key not in known]
    if missing:
        finder = FaceFinder(threads=1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                rows = tqdm(pool.map(locate, missing), total=len(missing), desc="finding faces", unit="picture")
                for index, row in zip(missing, rows, strict=True):
                    known[keys[index]] = row
        finally:  # a run that is stopped keeps what it has found
            replace_file(cache, lambda part: np.savez(part, **known))
    return [LocatedFace(known[key][:4], known[key][4:].reshape(5, 2) if known[key].size > 4 else None) for key in keys]


def face_square(face: LocatedFace, margin: float, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return the square the network is shown of an example, as `Detector.detect` would cut it."""
    if face.landmarks is None:
        return whole_square(width_px, height_px)
    return crop_square(face.box, margin, width_px, height_px)


def _draw(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the group's name and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def _file_key(path: Path) -> str:
    status = path.stat()
    what = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{finder_settings()}"
    return hashlib.sha256(what.encode()).hexdigest()


def _read_cache(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path) as cache:
        return dict(cache)
