"""Lists of labelled pictures: reading, writing, splitting by group, and the faces in them.

A manifest is a CSV file with the columns path, label (1 = fake), source, generator, group and split; paths are
relative to it. Examples that share a `group` (the copies of one picture, the frames of one video) stay in one part
of every split. The columns kind, family and fold are optional; a fold is a part of cross-validation.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.media.images import read_image
from detector.models.spec import file_sha256
from detector.pictures.faces import FaceFinder, crop_square, finder_settings, whole_square
from detector.results import DetectorError
from training.runs import replace_file

ROOT = Path(__file__).resolve().parents[1]
MANIFEST_COLUMNS = ("path", "label", "source", "generator", "group", "split")
OPTIONAL_COLUMNS = ("kind", "family", "fold")
CACHE = ROOT / ".cache"
FACE_CACHE = "faces.npz"  # in CACHE
CALIBRATION_PROPORTION = 0.1  # of the training groups
# Fixed: a run that starts from another run's weights needs calibration pictures that neither has learned from.
CALIBRATION_SEED = 1


@dataclass(frozen=True)
class Example:
    """One labelled picture.

    Attributes:
        path: of the file.
        label: 1 = fake.
        source: collection.
        generator: program that made a fake; the camera or its kind for a real picture.
        group: examples that must stay on one side of every split share it.
        split: train or val.
        kind: sort of pictures, such as swap or photograph; empty if the manifest does not name it.
        family: related generators.
        fold: part of cross-validation, from 0 up; None if the manifest has no folds.
    """

    path: Path
    label: int
    source: str
    generator: str
    group: str
    split: str
    kind: str = ""
    family: str = ""
    fold: int | None = None


@dataclass(frozen=True, eq=False)
class LocatedFace:
    """The largest face of an example.

    Attributes:
        box: (4,) float32 x, y, w, h in pixels; the whole picture if no face was found.
        landmarks: (5, 2) float32 x and y in pixels, or None if no face was found.
    """

    box: np.ndarray
    landmarks: np.ndarray | None


def read_manifest(path: Path) -> list[Example]:
    """Read a manifest; a family that it does not name is the generator.

    Raises:
        SystemExit: the file, a column or a value is missing, a label is not 0 or 1, a fold is not a whole number from
            0 up, or a group has two splits.
    """
    rows = read_labelled_rows(path, MANIFEST_COLUMNS)
    if any(not row[name] for row in rows for name in ("path", "group", "split")):
        raise SystemExit(f"Every row of the manifest {path} needs a path, a group and a split.")
    if wrong := {fold for row in rows if (fold := row.get("fold")) and not (fold.isascii() and fold.isdecimal())}:
        raise SystemExit(f"Folds are whole numbers from 0 up; the manifest {path} has {', '.join(sorted(wrong))}.")
    splits: dict[str, str] = {}
    for row in rows:
        if splits.setdefault(row["group"], row["split"]) != row["split"]:
            raise SystemExit(f"The group {row['group']} of the manifest {path} lies in two splits; it must be in one.")
    return [
        Example(
            path.parent / row["path"],
            int(row["label"]),
            source=row["source"],
            generator=row["generator"],
            group=row["group"],
            split=row["split"],
            kind=row.get("kind") or "",
            family=row.get("family") or row["generator"],
            fold=int(row["fold"]) if row.get("fold") else None,
        )
        for row in rows
    ]


def read_labelled_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a manifest as text.

    Raises:
        SystemExit: the file or a column is missing, it has no rows, or a label is not 0 or 1.
    """
    if not path.is_file():
        raise SystemExit(f"There is no manifest {path}. For pictures, scripts/generate_synthetic_data.py makes one.")
    with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
        rows = list(csv.DictReader(file))
    if not rows or not set(columns) <= set(rows[0]):
        raise SystemExit(f"The manifest {path} is empty or lacks one of the columns {', '.join(columns)}.")
    if wrong := {row["label"] or "nothing" for row in rows} - {"0", "1"}:
        raise SystemExit(f"Labels are 0 (real) or 1 (fake); the manifest {path} has {', '.join(sorted(wrong))}.")
    return rows


def write_manifest(path: Path, examples: Iterable[Example]) -> None:
    """Write a manifest atomically: a reader sees the old file or the new one.

    Of OPTIONAL_COLUMNS those are written in which an example has a value, and the family only if it is not the
    generator everywhere.
    """
    listed = list(examples)
    absent: dict[str, set[Any]] = {"kind": {""}, "fold": {None}}
    optional = [
        name
        for name in OPTIONAL_COLUMNS
        if any(getattr(e, name) not in absent.get(name, {"", e.generator}) for e in listed)
    ]

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*MANIFEST_COLUMNS, *optional])
            for example in listed:
                relative = Path(os.path.relpath(example.path, path.parent)).as_posix()
                values = (getattr(example, name) for name in (*MANIFEST_COLUMNS[2:], *optional))
                writer.writerow([relative, example.label, *values])

    replace_file(path, write)


def split_by_group(examples: list[Example], proportion: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split examples in two by group: about `proportion` of the groups go to the second part.

    The part of a group depends on its name and the seed alone, so added pictures move no others. The exception is one
    group per label, which is moved if a part would lack that label.

    Raises:
        SystemExit: a label has fewer than two groups.
    """
    draws = {example.group: _draw(example.group, seed) for example in examples}
    second = {group for group, draw in draws.items() if draw < proportion}
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
            second.add(min(movable, key=lambda group: draws[group]))
        if groups <= second:
            second.discard(max(movable, key=lambda group: draws[group]))
    return [e for e in examples if e.group not in second], [e for e in examples if e.group in second]


def without_fold(examples: list[Example], fold: int | None) -> list[Example]:
    """Return the examples outside of a fold; None leaves out nothing.

    Raises:
        SystemExit: no example of the split train lies in the fold.
    """
    if fold is None:
        return examples
    if not any(example.fold == fold and example.split == "train" for example in examples):
        raise SystemExit(f"No picture of the split train lies in fold {fold}, so there is nothing to leave out.")
    return [example for example in examples if example.fold != fold]


def split_train_calibration(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Split a manifest's `train` examples into those networks learn from and those that select settings."""
    return split_by_group(
        [example for example in examples if example.split == "train"], CALIBRATION_PROPORTION, CALIBRATION_SEED
    )


def locate_faces(examples: list[Example], *, threads: int = 2) -> list[LocatedFace]:
    """Find the largest face of every example, and cache the results between runs.

    Raises:
        SystemExit: a picture cannot be read; a training set must be complete.
    """
    known = _read_cache()
    keys = [_file_key(example.path) for example in examples]
    missing = [index for index, key in enumerate(keys) if key not in known]
    if missing:
        finder = FaceFinder(threads=1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                found = pool.map(lambda index: find_largest_face(examples[index].path, finder), missing)
                rows = tqdm(found, total=len(missing), desc="finding faces", unit="picture")
                for index, face in zip(missing, rows, strict=True):
                    known[keys[index]] = face
        finally:  # an interrupted run keeps what it has found
            _write_cache(known)
    return [known[key] for key in keys]


def find_largest_face(path: Path, finder: FaceFinder) -> LocatedFace:
    """Find the largest face of a picture, or take the whole picture.

    Raises:
        SystemExit: the picture cannot be read.
    """
    try:
        image = read_image(path)
    except DetectorError as error:
        raise SystemExit(f"{path}: {error}") from error
    faces = finder.find_faces(image)
    if not faces:
        height, width = image.shape[:2]
        return LocatedFace(np.array([0, 0, width, height], np.float32), None)
    return LocatedFace(faces[0].box, faces[0].landmarks)


def remember_faces(faces: Mapping[Path, LocatedFace]) -> None:
    """Add the faces of pictures to the cache of `locate_faces`, so that they are not searched again.

    Entries that are there already stay.

    Args:
        faces: the largest face of each picture, in that picture's pixels.
    """
    if faces:
        _write_cache({_file_key(path): face for path, face in faces.items()} | _read_cache())


def face_square(face: LocatedFace, margin: float, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return the square of an example that the network sees, as `Detector.detect` cuts it."""
    if face.landmarks is None:
        return whole_square(width_px, height_px)
    return crop_square(face.box, margin, width_px, height_px)


def format_path(path: Path) -> str:
    """Return a path quoted for a message, since a name may hold control characters."""
    return repr(str(path))


def _draw(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the group's name and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def _file_key(path: Path) -> str:
    """Return the cache key of a picture: its content, and the settings of the face finder."""
    return hashlib.sha256(f"{file_sha256(path)}:{finder_settings()}".encode()).hexdigest()


def _read_cache() -> dict[str, LocatedFace]:
    """Read the cached faces; a row holds the box (4,) and, if a face was found, its landmarks (10,)."""
    path = CACHE / FACE_CACHE
    if not path.is_file():
        return {}
    with np.load(path) as rows:
        return {key: LocatedFace(row[:4], row[4:].reshape(5, 2) if row.size > 4 else None) for key, row in rows.items()}


def _write_cache(faces: Mapping[str, LocatedFace]) -> None:
    CACHE.mkdir(exist_ok=True)
    rows: dict[str, Any] = {
        key: face.box if face.landmarks is None else np.concatenate([face.box, face.landmarks.ravel()])
        for key, face in faces.items()
    }
    replace_file(CACHE / FACE_CACHE, lambda part: np.savez(part, **rows))
