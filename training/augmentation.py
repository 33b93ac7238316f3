"""Make augmented copies of pictures, with self-blends on request, and the manifest that training reads.

All pictures are saved as JPEG of one quality and in the size of their original, so that neither format nor resampling
carries a label. A copy depends on the picture's bytes, the seed and the copy's number alone.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import encode_jpeg, read_image
from detector.pictures.faces import FaceFinder
from detector.results import DetectorError
from training.manifests import Example, LocatedFace, format_path, remember_faces, split_by_group, write_manifest
from training.synthesis import self_blend

COPIES_PER_PICTURE = 5
MAX_TURN_DEG = 15.0  # rotation, either way
MAX_SHIFT = 0.1  # either way, of the width and of the height
MAX_SHEAR = 0.1  # either way, sideways shift over height
ZOOM = (0.9, 1.2)  # factor
FLIP_CHANCE = 0.5  # of mirroring left and right
JPEG_QUALITY = 95  # the most Pillow advises
HELD_OUT_PROPORTION = 0.2  # of the pictures
HELD_OUT_SEED = -1  # fixed, so that no --seed moves a picture from one model's training set into the next one's test
MIN_LEARNED = 2  # pictures of a kind that train.py needs: it sets some aside for calibration
FOLDERS = ("real", "df")  # by label

_UNMOVED_NAME = re.compile(r".+-[0-9a-f]{16}-(original|self-blend0-seed\d+)\.jpg")
_GENERATED_NAME = re.compile(r".+-[0-9a-f]{16}-(original|(copy|self-blend)\d+-seed\d+)\.jpg")


def find_pictures(source: Path) -> tuple[list[Example], int]:
    """Read every file of the two folders and their subfolders; `group` is the hash of the bytes.

    Unreadable files are reported on stderr with the reason. So are identical files, which count once. Hidden files are
    ignored.

    Args:
        source: folder that holds the folders real and df.

    Returns:
        The pictures, real ones first, sorted by name; and the number of unreadable files.

    Raises:
        SystemExit: a folder holds no picture, or a picture lies in both.
    """
    found: dict[str, Example] = {}
    unreadable, contradictions = 0, []
    for label, path in tqdm(_list_files(source), desc="reading", unit="file"):
        try:
            read_image(path)
        except DetectorError as error:
            unreadable += 1
            tqdm.write(f"{format_path(path)}: {error}", file=sys.stderr)
            continue
        group = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        twin = found.setdefault(
            group, Example(path, label, source.resolve().name, ("camera", "unknown")[label], group, "")
        )
        if twin.label != label:
            contradictions.append(
                f"{format_path(twin.path)} and {format_path(path)} are the same picture; it cannot be both."
            )
        elif twin.path != path:
            tqdm.write(
                f"{format_path(path)} is the same picture as {format_path(twin.path)}; it counts once.", file=sys.stderr
            )
    if contradictions:
        raise SystemExit("\n".join([*contradictions, "Nothing was written. Remove the wrong one of each pair."]))
    pictures = list(found.values())
    if empty := [source / kind for label, kind in enumerate(FOLDERS) if all(p.label != label for p in pictures)]:
        raise SystemExit(
            f"There is no picture to work with in {' and in '.join(map(str, empty))}. "
            f"Put deepfakes into {source / 'df'} and real photos into {source / 'real'}, then run this again."
        )
    return pictures, unreadable


def hold_out(pictures: list[Example]) -> set[str]:
    """Choose the groups of the final test; none if a kind has too few pictures to learn from."""
    if min(Counter(picture.label for picture in pictures).values()) <= MIN_LEARNED:
        return set()
    learned, held_out = split_by_group(pictures, HELD_OUT_PROPORTION, HELD_OUT_SEED)
    for label in (0, 1):
        if sum(picture.label == label for picture in learned) < MIN_LEARNED:
            held_out.remove(max((p for p in held_out if p.label == label), key=lambda p: p.group))
    return {picture.group for picture in held_out}


def draw_motion(width_px: int, height_px: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one augmentation around the picture's centre: rotation, shift, shear, zoom and mirroring.

    Returns:
        (2, 3) affine matrix from the picture to its copy, in pixels.
    """
    turn = np.deg2rad(rng.uniform(-MAX_TURN_DEG, MAX_TURN_DEG))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.array([[1, rng.uniform(-MAX_SHEAR, MAX_SHEAR)], [0, 1]])
    mirror = np.diag([-1 if rng.random() < FLIP_CHANCE else 1, 1])
    linear = rotation @ shear @ mirror * rng.uniform(*ZOOM)
    centre = np.array([width_px - 1, height_px - 1]) / 2
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * (width_px, height_px)
    return np.column_stack([linear, centre + shift - linear @ centre])


def make_copies(
    picture: Example, image: np.ndarray, landmarks: np.ndarray | None, *, copies: int, seed: int
) -> Iterator[tuple[Example, np.ndarray]]:
    """Yield a picture, its augmented copies and, given landmarks, the self-blend of each.

    Args:
        picture: the example to copy.
        image: (H, W, 3) uint8 RGB, its pixels.
        landmarks: (5, 2) pixels, of a real face to make deepfakes of, or None.
        copies: number of copies.
        seed: of all random draws.

    Yields:
        The example, its path relative to the output folder; and its picture (H, W, 3) uint8 RGB.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", picture.path.stem)[:40].strip("-") or "picture"
    name = f"{stem}-{picture.group}"
    blended = replace(picture, label=1, source="self_blend", generator="self_blend")
    for number in range(copies + 1):
        stream = [seed, int(picture.group, 16), number]
        motion = draw_motion(image.shape[1], image.shape[0], np.random.default_rng(stream)) if number else None
        what = f"copy{number}-seed{seed}" if number else "original"
        yield replace(picture, path=Path(FOLDERS[picture.label], f"{name}-{what}.jpg")), _move(image, motion)
        if landmarks is not None:
            # The blend moves as the real copy does, so that the two differ in the blend alone.
            blend, _ = self_blend(image, landmarks, np.random.default_rng([*stream, 1]))
            what = f"self-blend{number}-seed{seed}"
            yield replace(blended, path=Path(FOLDERS[1], f"{name}-{what}.jpg")), _move(blend, motion)


@dataclass(frozen=True)
class Augmentation:
    """Settings of the copies.

    Attributes:
        copies: number of copies of each training picture.
        seed: of all random draws.
        self_blend: whether fakes are made of the real training pictures.
    """

    copies: int = COPIES_PER_PICTURE
    seed: int = 1
    self_blend: bool = False


def generate(source: Path, out: Path, augmentation: Augmentation) -> int:
    """Write the pictures and their manifest; all are written to a temporary folder and moved into place at the end.

    Args:
        source: folder that holds the folders real and df.
        out: folder to write.
        augmentation: the settings.

    Returns:
        Number of unreadable files.

    Raises:
        SystemExit: there is no usable picture, or a picture lies in both folders.
        ModelError: the face finder is not installed.
    """
    pictures, unreadable = find_pictures(source)
    held_out = hold_out(pictures)
    part = out / ".part"
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        for folder in FOLDERS:
            (part / folder).mkdir(parents=True)
        examples, faces, faceless = _write_copies(pictures, held_out, part, augmentation)
        _publish(part, out, examples)
        remember_faces({out / path: face for path, face in faces.items()})
    finally:
        shutil.rmtree(part, ignore_errors=True)

    for split, purpose in (("train", "to learn from"), ("val", "held out for evaluate.py")):
        counts = Counter(example.label for example in examples if example.split == split)
        print(f"{counts[0]} real and {counts[1]} fake pictures {purpose}")
    if not held_out:
        print(f"To hold some out, at least {MIN_LEARNED + 1} different pictures of each kind are needed.")
    if faceless:
        print(f"Real pictures without a face, not blended: {faceless}")
    return unreadable


def _write_copies(
    pictures: list[Example], held_out: set[str], folder: Path, augmentation: Augmentation
) -> tuple[list[Example], dict[Path, LocatedFace], int]:
    """Write the pictures, their copies and blends into a folder.

    Returns:
        The examples, their paths relative to the folder; the faces that were found, by these paths; and the number of
        real pictures without a face. A moved copy has no face here: its box does not follow from the original's.
    """
    finder = FaceFinder(threads=1) if augmentation.self_blend else None
    examples: list[Example] = []
    located: dict[Path, LocatedFace] = {}
    faceless = 0
    for picture in tqdm(pictures, desc="making", unit="picture"):
        image, face = read_image(picture.path), None
        is_learned = picture.group not in held_out
        if finder and is_learned and picture.label == 0:
            faces = finder.find_faces(image)
            face = LocatedFace(faces[0].box, faces[0].landmarks) if faces else None
            faceless += not faces
        placed = replace(picture, split="train" if is_learned else "val")
        landmarks = face.landmarks if face else None
        copies = augmentation.copies if is_learned else 0
        for example, pixels in make_copies(placed, image, landmarks, copies=copies, seed=augmentation.seed):
            (folder / example.path).write_bytes(encode_jpeg(pixels, quality=JPEG_QUALITY))
            examples.append(example)
            if face and _UNMOVED_NAME.fullmatch(example.path.name):
                located[example.path] = face
    return examples, located, faceless


def _list_files(source: Path) -> list[tuple[int, Path]]:
    """Return (label, path) of every file in the two folders, in a fixed order."""
    return [
        (label, path)
        for label, kind in enumerate(FOLDERS)
        for path in sorted((source / kind).rglob("*"))
        if not path.is_dir() and not any(name.startswith(".") for name in path.relative_to(source).parts)
    ]


def _move(image: np.ndarray, motion: np.ndarray | None) -> np.ndarray:
    """Warp a picture, mirrored beyond its edges; None leaves it as it is."""
    if motion is None:
        return image
    return cv2.warpAffine(image, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def _publish(part: Path, out: Path, examples: list[Example]) -> None:
    """Move the pictures into place, then the manifest that names them, then remove the pictures of earlier runs.

    A name contains everything its picture depends on, so the manifest names complete and correct pictures at any time.
    """
    for path in (example.path for example in examples):
        made, place = part / path, out / path
        place.parent.mkdir(exist_ok=True)
        # An unchanged file keeps its time, which is part of the key of the face cache.
        if not (place.is_file() and place.read_bytes() == made.read_bytes()):
            made.replace(place)
    write_manifest(out / "manifest.csv", [replace(example, path=out / example.path) for example in examples])
    named = {out / example.path for example in examples}
    for kind in FOLDERS:
        for place in (out / kind).glob("*.jpg"):
            if _GENERATED_NAME.fullmatch(place.name) and place not in named:
                place.unlink()
