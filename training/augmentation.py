"""Make augmented copies of a person's own pictures and the manifest train.py learns from.

    python scripts/generate_synthetic_data.py                    # data/sample_data/{df,real} -> data/synthetic_data
    python scripts/generate_synthetic_data.py --copies 10 --seed 2 --self-blend

About a fifth of the pictures are held out for evaluate.py (`split` val): they are there once and as they are, neither
copied nor blended, since a warped or home-made picture is nothing anyone uploads. The others (`split` train) are there
as they are, in augmented copies, and with --self-blend each real one with a face also as deepfakes of our own making.
Whatever is made of one picture stays in its `group`.

Everything is saved alike, as JPEG of one quality and in the picture's own size, so that neither format nor resampling
tells a class. What is made of a picture depends on its bytes, the seed and the copy's number alone.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import encode_jpeg, read_image
from detector.pictures.faces import FaceFinder
from detector.results import DetectorError
from training.arguments import at_least
from training.manifests import ROOT, Example, split_by_group, write_manifest
from training.synthesis import self_blend

COPIES = 5  # per picture
MAX_TURN_DEG = 15.0  # rotation, either way
MAX_SHIFT = 0.1  # either way, of the width and of the height
MAX_SHEAR = 0.1  # either way, sideways shift over height
ZOOM = (0.9, 1.2)  # factor
FLIP_CHANCE = 0.5  # of mirroring left and right
JPEG_QUALITY = 95  # the most Pillow advises
HELD_OUT_SHARE = 0.2  # of the pictures
HELD_OUT_SEED = -1  # fixed, so that no --seed moves a picture from one model's lessons into the next one's test
MIN_LEARNED = 2  # pictures of a kind that train.py needs: it sets some aside for tuning
KINDS = ("real", "df")  # the folders, in the order of their labels

_OUR_NAME = re.compile(r".+-[0-9a-f]{16}-(original|(copy|self-blend)\d+-seed\d+)\.jpg")


def find_pictures(source: Path) -> tuple[list[Example], int]:
    """Read every file of the two folders and the folders in them; `group` is the hash of the bytes.

    Files that cannot be read are named on stderr with the reason, and so are byte for byte repetitions, which count
    once. Names that begin with a dot are passed over.

    Returns:
        The pictures, real ones first, by name; and how many files could not be read.

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
            tqdm.write(f"{_shown(path)}: {error}", file=sys.stderr)
            continue
        group = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        twin = found.setdefault(
            group, Example(path, label, source.resolve().name, ("camera", "unknown")[label], group, "")
        )
        if twin.label != label:
            contradictions.append(f"{_shown(twin.path)} and {_shown(path)} are the same picture; it cannot be both.")
        elif twin.path != path:
            tqdm.write(f"{_shown(path)} is the same picture as {_shown(twin.path)}; it counts once.", file=sys.stderr)
    if contradictions:
        raise SystemExit("\n".join([*contradictions, "Nothing was written. Remove the wrong one of each pair."]))
    pictures = list(found.values())
    if empty := [source / kind for label, kind in enumerate(KINDS) if all(p.label != label for p in pictures)]:
        raise SystemExit(
            f"There is no picture to work with in {' and in '.join(map(str, empty))}. "
            f"Put deepfakes into {source / 'df'} and real photos into {source / 'real'}, then run this again."
        )
    return pictures, unreadable


def hold_out(pictures: list[Example]) -> set[str]:
    """Choose the groups of the final test; none where a kind has too few pictures to learn from already."""
    if min(Counter(picture.label for picture in pictures).values()) <= MIN_LEARNED:
        return set()
    learned, held_out = split_by_group(pictures, HELD_OUT_SHARE, HELD_OUT_SEED)
    for label in (0, 1):
        if sum(picture.label == label for picture in learned) < MIN_LEARNED:
            held_out.remove(max((p for p in held_out if p.label == label), key=lambda p: p.group))
    return {picture.group for picture in held_out}


def draw_motion(width_px: int, height_px: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one augmentation: turn, shift, shear, zoom and perhaps mirror, around the picture's centre.

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
    """Yield a picture, its augmented copies and, where there are landmarks, the self-blend of each.

    Args:
        image: (H, W, 3) uint8 RGB, what `picture` holds.
        landmarks: (5, 2) pixels, of a real face to make deepfakes of, or None.

    Yields:
        The example, its path relative to the folder of all; and its picture (H, W, 3) uint8 RGB.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", picture.path.stem)[:40].strip("-") or "picture"
    name = f"{stem}-{picture.group}"
    blended = replace(picture, label=1, source="self_blend", generator="self_blend")
    for number in range(copies + 1):
        stream = [seed, int(picture.group, 16), number]
        motion = draw_motion(image.shape[1], image.shape[0], np.random.default_rng(stream)) if number else None
        what = f"copy{number}-seed{seed}" if number else "original"
        yield replace(picture, path=Path(KINDS[picture.label], f"{name}-{what}.jpg")), _move(image, motion)
        if landmarks is not None:
            # It moves as the copy of the real one did, so that the blend is all that tells them apart.
            blend, _ = self_blend(image, landmarks, np.random.default_rng([*stream, 1]))
            what = f"self-blend{number}-seed{seed}"
            yield replace(blended, path=Path(KINDS[1], f"{name}-{what}.jpg")), _move(blend, motion)


def generate(source: Path, out: Path, *, copies: int, seed: int, with_blends: bool) -> int:
    """Write the pictures and their manifest; all is made aside and moved into place at the end.

    Returns:
        How many files could not be read.

    Raises:
        SystemExit: there is nothing to work with, or a picture lies in both folders.
        ModelError: the face finder is not installed.
    """
    pictures, unreadable = find_pictures(source)
    held_out = hold_out(pictures)
    finder = FaceFinder(threads=1) if with_blends else None
    part = out / ".part"
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    examples, faceless = [], 0
    try:
        for kind in KINDS:
            (part / kind).mkdir(parents=True)
        for picture in tqdm(pictures, desc="making", unit="picture"):
            image, landmarks = read_image(picture.path), None
            learned = picture.group not in held_out
            if finder and learned and picture.label == 0:
                faces = finder.find_faces(image)
                landmarks = faces[0].landmarks if faces else None
                faceless += not faces
            placed = replace(picture, split="train" if learned else "val")
            for example, pixels in make_copies(placed, image, landmarks, copies=copies if learned else 0, seed=seed):
                (part / example.path).write_bytes(encode_jpeg(pixels, quality=JPEG_QUALITY))
                examples.append(example)
        _publish(part, out, examples)
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


def _list_files(source: Path) -> list[tuple[int, Path]]:
    """Return (label, path) of every file in the two folders, in a fixed order."""
    return [
        (label, path)
        for label, kind in enumerate(KINDS)
        for path in sorted((source / kind).rglob("*"))
        if not path.is_dir() and not any(name.startswith(".") for name in path.relative_to(source).parts)
    ]


def _move(image: np.ndarray, motion: np.ndarray | None) -> np.ndarray:
    """Warp a picture, mirroring it where the copy looks past its edge; None leaves it as it is."""
    if motion is None:
        return image
    return cv2.warpAffine(image, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def _publish(part: Path, out: Path, examples: list[Example]) -> None:
    """Move the pictures into place, then the manifest that names them, then remove what an earlier run left.

    A name says all that a picture depends on, so the manifest names the right whole pictures at every moment.
    """
    for path in (example.path for example in examples):
        made, place = part / path, out / path
        place.parent.mkdir(exist_ok=True)
        # An unchanged file keeps its time, by which train.py remembers where its face is.
        if not (place.is_file() and place.read_bytes() == made.read_bytes()):
            made.replace(place)
    write_manifest(out / "manifest.csv", [replace(example, path=out / example.path) for example in examples])
    named = {out / example.path for example in examples}
    for kind in KINDS:
        for place in (out / kind).glob("*.jpg"):
            if _OUR_NAME.fullmatch(place.name) and place not in named:
                place.unlink()


def _shown(path: Path) -> str:
    return repr(str(path))  # a name may hold control characters


def main(argv: list[str] | None = None) -> None:
    """Make the copies; exits with a sentence when files were left out or nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=Path, default=ROOT / "data" / "sample_data", help="holds the folders df and real"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "synthetic_data")
    parser.add_argument("--copies", type=at_least(0), default=COPIES, help=f"per picture (default {COPIES})")
    parser.add_argument("--seed", type=at_least(0), default=1)
    parser.add_argument("--self-blend", action="store_true", help="also make deepfakes out of the real pictures")
    options = parser.parse_args(argv)
    if options.out.resolve().is_relative_to(options.source.resolve()):
        raise SystemExit(f"--out {options.out} lies in --source {options.source}: the next run would copy the copies.")

    try:
        unreadable = generate(
            options.source, options.out, copies=options.copies, seed=options.seed, with_blends=options.self_blend
        )
    except KeyboardInterrupt:
        raise SystemExit("Stopped; nothing is half-written. Run the same command again to start over.") from None
    except OSError as error:
        raise SystemExit(f"The pictures cannot be written: {error}") from error
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {options.out / 'manifest.csv'}; next: python scripts/train.py")
    if unreadable:
        raise SystemExit(f"Files left out because they cannot be read: {unreadable}. The others are done.")


if __name__ == "__main__":
    main()
