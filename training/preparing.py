"""Turn folders, manifests and videos into face crops and a manifest, with near duplicates in one group.

Crops are PNG whatever the files were: nothing is compressed again, and the format carries no label. The same files
give the same crops and the same manifest, wherever they are. A second run processes only new files.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from detector.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, encode_png, read_image
from detector.media.videos import MAX_FRAMES, sample_frames
from detector.models.spec import file_sha256
from detector.pictures.faces import FaceFinder, FoundFace, crop_square, finder_settings, resize
from detector.pictures.quality import MIN_FACE_PX
from detector.results import DetectorError
from training.manifests import (
    ROOT,
    Example,
    LocatedFace,
    format_path,
    read_manifest,
    remember_faces,
    split_by_group,
    write_manifest,
)
from training.near_duplicates import (
    NEAR_DUPLICATE_BITS,
    Pictures,
    merge_near_duplicates,
    perceptual_hash,
    print_leakage,
)
from training.runs import replace_file
from training.settings import PositiveNumber, Proportion, WholeNumber

LABEL_BY_FOLDER = {"real": 0, "fake": 1, "df": 1}
WIDE_MARGIN = 1.8  # side of a crop over the longer side of the face box; the jitter of training reaches 1.69
MAX_WIDE_PX = 640  # longer side of a crop; the part that the network sees is still twice its input
VAL_PROPORTION = 0.1  # of the groups
REPORTED_BITS = (8, 16, 24, 32, 40)  # distances up to which the report counts pairs
FRAME_SAMPLING = "frames by time"  # part of the key of earlier results: another way to sample needs new ones


@dataclass(frozen=True)
class Inputs:
    """Files to prepare.

    Raises:
        ValueError: no folder and no manifest is named.
    """

    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that hold folders named real, fake or df, and manifests (.csv)."""
    real: tuple[Path, ...] = ()
    """Folders of real pictures."""
    fake: tuple[Path, ...] = ()
    """Folders of fakes."""
    resplit: bool = False
    """Drop the splits that a manifest gives."""

    def __post_init__(self) -> None:
        if not (self.inputs or self.real or self.fake):
            raise ValueError("name folders or manifests, or give --real and --fake")


@dataclass(frozen=True)
class Preparation:
    """Settings of a preparation."""

    out: Path = ROOT / "data" / "prepared"
    """Folder of the crops and the manifest."""
    frames: PositiveNumber | None = None
    """Frames of each video, instead of one per second."""
    no_crops: bool = False
    """Leave pictures as they are; only merge near duplicates and split."""
    val_share: Proportion = VAL_PROPORTION
    """Proportion of the groups held out."""
    seed: WholeNumber = 0
    """Seed of that split."""
    threads: PositiveNumber = field(default_factory=lambda: os.cpu_count() or 1)
    """Files processed at once."""


@dataclass(frozen=True)
class Made:
    """Result of one file.

    Attributes:
        hashes: perceptual hashes, by the suffix that distinguishes the picture's name.
        faceless: number of pictures without a usable face.
        error: why the file could not be read; "" if it could.
        faces: the face in each crop that was written in this run, by the crop's path.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    faceless: int = 0
    error: str = ""
    faces: dict[Path, LocatedFace] = field(default_factory=dict)


def find_labelled_folders(folder: Path) -> list[tuple[Path, int, str]]:
    """Find the folders named as in LABEL_BY_FOLDER at any depth; the folder above one names the source.

    Returns:
        Each folder with its label and its source, sorted by name.

    Raises:
        SystemExit: there is none.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_dir()):
        *above, name = (part.lower() for part in path.relative_to(folder).parts)
        if name in LABEL_BY_FOLDER and not any(part in LABEL_BY_FOLDER or part.startswith(".") for part in above):
            found.append((path, LABEL_BY_FOLDER[name], path.resolve().parent.name))
    if not found:
        raise SystemExit(f"There is no folder named real, fake or df in {folder}.")
    return found


def list_files(folders: Iterable[tuple[Path, int, str]]) -> tuple[list[Example], int]:
    """List the pictures and videos in folders and their subfolders, by suffix and sorted by name.

    Args:
        folders: each with its label and its source.

    Returns:
        Examples without group and split, and the number of other files. Hidden files are ignored.
    """
    examples, others = [], 0
    for folder, label, source in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if any(name.startswith(".") for name in path.relative_to(folder).parts):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                examples.append(Example(path, label, source, ("camera", "unknown")[label], "", ""))
            else:
                others += 1
    return examples, others


def list_inputs(inputs: Inputs, preparation: Preparation) -> tuple[list[Example], int]:
    """List the files of a preparation.

    Returns:
        Examples, with a group and a split where a manifest gives them, and the number of files that are neither
        picture nor video.

    Raises:
        SystemExit: a folder is missing, the output lies in an input, or there is no usable file.
    """
    manifests = [path for path in inputs.inputs if path.suffix.lower() == ".csv"]
    folders = [path for path in inputs.inputs if path not in manifests]
    out = preparation.out
    for folder in [*folders, *inputs.real, *inputs.fake]:
        if not folder.is_dir():
            raise SystemExit(f"There is no folder {folder}.")
        if out.resolve().is_relative_to(folder.resolve()):
            raise SystemExit(f"--out {out} lies in {folder}: the next run would take crops for pictures.")
    if any(path.resolve() == (out / "manifest.csv").resolve() for path in manifests):
        raise SystemExit(f"The result would overwrite {out / 'manifest.csv'}; give another --out.")
    labelled = [found for folder in folders for found in find_labelled_folders(folder)]
    labelled += [(folder, 0, folder.resolve().name) for folder in inputs.real]
    labelled += [(folder, 1, folder.resolve().name) for folder in inputs.fake]
    found, others = list_files(labelled)
    listed = [example for manifest in manifests for example in read_manifest(manifest)]
    files = ([replace(example, split="") for example in listed] if inputs.resplit else listed) + found
    if not files:
        raise SystemExit("The inputs hold no file with a name of a picture or a video.")
    if preparation.no_crops and any(_is_video(file.path) for file in files):
        raise SystemExit("--no-crops takes no videos, since train.py reads pictures.")
    return files, others


def cut_wide(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Cut a face out with all the surroundings that training may show.

    Margins outside the picture are left to `cut_square`, which mirrors them, so a square of the crop has the same
    pixels as that square of the picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) x, y, w, h of the face in pixels.

    Returns:
        (h, w, 3) uint8 RGB, shrunk to MAX_WIDE_PX if it is larger; and left, top and scale: a point (x, y) of the
        picture is at (x - left, y - top) * scale in the crop.
    """
    left, top, side, _ = crop_square(box, WIDE_MARGIN, image.shape[1], image.shape[0])
    x0, y0 = max(left, 0), max(top, 0)
    crop = image[y0 : top + side, x0 : left + side]
    scale = min(1.0, MAX_WIDE_PX / max(crop.shape[:2]))
    if scale < 1:
        crop = resize(crop, round(crop.shape[1] * scale), round(crop.shape[0] * scale))
    return crop, (x0, y0, scale)


def make_all(files: dict[str, Example], preparation: Preparation) -> dict[str, Made]:
    """Read every file, cut out its faces, and cache the results for the next run.

    Args:
        files: the files, by the hash of their bytes.
        preparation: the settings.

    Returns:
        The result of each file, by its hash.

    Raises:
        OSError: a crop cannot be written.
        ModelError: the face finder is not installed.
    """
    keys = {digest: _result_key(digest, file, preparation) for digest, file in files.items()}
    cache = preparation.out / ".made.json"
    cached = json.loads(cache.read_text()) if cache.is_file() else {}
    made = {digest: Made(**cached[key]) for digest, key in keys.items() if key in cached}

    def is_complete(digest: str) -> bool:
        return digest in made and all(
            _crop_path(files[digest], digest, suffix, preparation).is_file() for suffix in made[digest].hashes
        )

    missing = [digest for digest in files if not is_complete(digest)]
    finder = FaceFinder(threads=1) if missing and not preparation.no_crops else None
    make = partial(_make, preparation=preparation, finder=finder)
    try:
        results = _in_parallel(make, [(digest, files[digest]) for digest in missing], preparation.threads, "making")
        for digest, result in zip(missing, results, strict=True):
            made[digest] = result
    finally:  # an interrupted run keeps its results; unreadable files are tried again
        cached |= {
            keys[digest]: {"hashes": result.hashes, "faceless": result.faceless, "error": ""}
            for digest, result in made.items()
            if not result.error
        }
        replace_file(cache, lambda part: part.write_text(json.dumps(cached)))
        remember_faces({path: face for result in made.values() for path, face in result.faces.items()})
    return made


def choose_splits(examples: list[Example], val_proportion: float, seed: int) -> list[str]:
    """Choose a split for every group: from its manifest if it has one, else from its name and the seed.

    A group with several splits in manifests is held out, since the pictures a model is evaluated on must not change.

    Returns:
        The split of each example's group.
    """
    given = defaultdict(set)
    for example in examples:
        if example.split:
            given[example.group].add(example.split)
    splits = {group: min(found, key=lambda split: (split == "train", split)) for group, found in given.items()}
    new = [example for example in examples if example.group not in splits]
    groups = [{example.group for example in new if example.label == label} for label in (0, 1)]
    if val_proportion in (0, 1):
        second = new if val_proportion else []
    elif min(map(len, groups)) < 2:  # holding out the only group would leave nothing to learn from
        second = []
    else:
        # Negative, unlike any seed of train.py: the same draw again would leave no calibration split.
        _, second = split_by_group(new, val_proportion, -1 - seed)
    splits |= {example.group: "train" for example in new} | {example.group: "val" for example in second}
    return [splits[example.group] for example in examples]


def prepare(files: list[Example], preparation: Preparation) -> Counter[str]:
    """Make the crops, merge near duplicates, split, write the manifest, and print a summary.

    Returns:
        Number of skipped pictures by reason.

    Raises:
        SystemExit: a file is listed as real and as fake, or no crop could be made.
    """
    cv2.setNumThreads(1)  # the thread pool is the parallelism
    preparation.out.mkdir(parents=True, exist_ok=True)
    digests = list(_in_parallel(_digest, [(file.path,) for file in files], preparation.threads, "reading"))
    unique = _unique_files(digests, files)
    made = make_all(unique, preparation)
    skipped: Counter[str] = Counter()
    for digest, result in made.items():
        if result.error:
            print(f"{format_path(unique[digest].path)}: {result.error}", file=sys.stderr)
        skipped["unreadable"] += bool(result.error)
        skipped[f"without a face of at least {MIN_FACE_PX} px"] += result.faceless

    examples, hashes = [], []
    for digest, file in zip(digests, files, strict=True):
        for suffix, picture_hash in made[digest].hashes.items():
            path = _crop_path(unique[digest], digest, suffix, preparation)
            examples.append(replace(file, path=path, group=file.group or digest[:16]))
            hashes.append(picture_hash)
    if not examples:
        raise SystemExit(f"Nothing could be made. Skipped: {format_counts(skipped)}.")
    examples = _merge(examples, hashes, preparation)
    kept = _assign_splits(examples, preparation, skipped)
    write_manifest(preparation.out / "manifest.csv", kept)
    _print_summary(kept, preparation)
    return skipped


def format_counts(counts: Counter[str]) -> str:
    """Return counts as one phrase; those of zero are left out."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"


def _unique_files(digests: list[str], files: list[Example]) -> dict[str, Example]:
    """Return the first file of each hash.

    Raises:
        SystemExit: a file is listed as real and as fake.
    """
    unique: dict[str, Example] = {}
    for digest, file in zip(digests, files, strict=True):
        twin = unique.setdefault(digest, file)
        if twin.label != file.label:
            raise SystemExit(
                f"{format_path(twin.path)} and {format_path(file.path)} are the same file; it cannot be real and "
                "fake. Nothing was written. Remove the wrong one."
            )
    return unique


def _assign_splits(examples: list[Example], preparation: Preparation, skipped: Counter[str]) -> list[Example]:
    """Return the examples with their splits; drop repetitions and near duplicates of held-out pictures."""
    splits = choose_splits(examples, preparation.val_share, preparation.seed)
    kept: dict[Path, Example] = {}
    for example, split in zip(examples, splits, strict=True):
        if example.split not in ("", split):
            skipped["near duplicates of held-out pictures"] += 1
        elif example.path in kept:
            skipped["repeated"] += 1
        else:
            kept[example.path] = replace(example, split=split)
    return list(kept.values())


def _print_summary(kept: list[Example], preparation: Preparation) -> None:
    counts = Counter((example.split, example.label) for example in kept)
    for split in sorted({split for split, _ in counts}):
        print(f"{split}: {counts[split, 0]:,} real and {counts[split, 1]:,} fake pictures")
    if preparation.val_share and {split for split, _ in counts} == {"train"}:
        print("Nothing is held out: at least 2 groups of each kind are needed.")


def _merge(examples: list[Example], hashes: list[str], preparation: Preparation) -> list[Example]:
    """Give near duplicates one group, and report the leakage of other splits."""
    bits = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), -1)
    labels, names = np.array([example.label for example in examples]), np.array([e.group for e in examples])
    groups, near, pairs = merge_near_duplicates(bits, names)
    members = defaultdict(set)
    for group, name in zip(groups.tolist(), names.tolist(), strict=True):
        members[group].add(name)
    merged = [group for group, found in members.items() if len(found) > 1]
    print(
        f"{near.sum():,} of {len(near):,} pictures have a near duplicate in another group "
        f"(up to {NEAR_DUPLICATE_BITS} bits)."
    )
    counts = (f"{pairs[: n + 1].sum():,} up to {n} bits" for n in REPORTED_BITS)
    print("  Pairs from different groups: " + ", ".join(counts))
    if merged:
        joined = sum(len(members[group]) for group in merged)
        largest = np.bincount(groups)[merged].max()
        print(f"  {joined:,} groups become {len(merged):,}, the largest of {largest:,} pictures.")

    def held_out(examples: list[Example]) -> np.ndarray:
        splits = choose_splits(examples, preparation.val_share, preparation.seed)
        return np.array([(e.split or split) != "train" for e, split in zip(examples, splits, strict=True)])

    pictures = Pictures(labels, bits, groups)
    if len(np.unique(names)) < len(names):
        single = [replace(example, group=str(i), split="") for i, example in enumerate(examples)]
        print_leakage("Split picture by picture, {} have one of their group in train.", pictures, held_out(single))
    print_leakage("Split by group alone, {} have a near duplicate in train.", pictures, held_out(examples))
    return [replace(example, group=min(members[group])) for example, group in zip(examples, groups, strict=True)]


def _make(digest: str, file: Example, *, preparation: Preparation, finder: FaceFinder | None) -> Made:
    """Hash the pictures of one file and, given a finder, write the largest face of each."""
    hashes: dict[str, str] = {}
    located: dict[Path, LocatedFace] = {}
    faceless = 0
    try:
        for suffix, image in _read_pictures(file.path, preparation.frames):
            if finder:
                faces = finder.find_faces(image)
                if not faces or max(faces[0].box[2:]) < MIN_FACE_PX:
                    faceless += 1
                    continue
                path = _crop_path(file, digest, suffix, preparation)
                located[path] = _write_crop(path, image, faces[0])
            hashes[suffix] = perceptual_hash(image)
    except DetectorError as error:
        return Made(error=str(error))
    return Made(hashes, faceless, faces=located)


def _write_crop(path: Path, image: np.ndarray, face: FoundFace) -> LocatedFace:
    """Write the crop of a face; returns the face in the pixels of the crop."""
    crop, (left, top, scale) = cut_wide(image, face.box)
    png = encode_png(crop)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda part: part.write_bytes(png))
    offset = np.array([left, top, 0, 0], np.float32)
    return LocatedFace((face.box - offset) * np.float32(scale), (face.landmarks - offset[:2]) * np.float32(scale))


def _read_pictures(path: Path, frames: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the pictures of a file, each with a suffix that distinguishes it from the file's others.

    Of a video these are frames, evenly spaced: one per second, or as many as requested.
    """
    if not _is_video(path):
        yield "", read_image(path)
        return
    sampled = sample_frames(path) if frames is None else sample_frames(path, every_s=1e-6, max_frames=frames)
    for timestamp_s, frame in sampled:
        yield f"-{round(timestamp_s * 1000):08d}ms", frame


def _crop_path(file: Example, digest: str, suffix: str, preparation: Preparation) -> Path:
    """Return the path of a picture's crop, or of the picture itself if no crops are made."""
    if preparation.no_crops:
        return file.path
    stem = re.sub(r"[^A-Za-z0-9]+", "-", file.path.stem)[:40].strip("-") or "picture"
    return preparation.out / ("real", "fake")[file.label] / f"{stem}-{digest[:16]}{suffix}.png"


def _result_key(digest: str, file: Example, preparation: Preparation) -> str:
    """Return the key of a file's cached result: its bytes and everything that decides the result."""
    crops = f"{WIDE_MARGIN}, {MAX_WIDE_PX}, {MIN_FACE_PX}, {finder_settings()}"
    how = "as it is" if preparation.no_crops else crops
    frames = f"{FRAME_SAMPLING}, {preparation.frames or MAX_FRAMES}" if _is_video(file.path) else "False"
    return f"{digest}, {how}, {frames}"


def _in_parallel(work: Callable[..., Any], items: list[Any], threads: int, description: str) -> Iterator[Any]:
    """Yield the results of `work` in the order of the items; an interruption cancels those not started."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            results = pool.map(lambda item: work(*item), items)
            yield from tqdm(results, total=len(items), desc=description, unit="file")
        finally:
            pool.shutdown(cancel_futures=True)


def _digest(path: Path) -> str:
    """Return the hash of a file's bytes, or its path if reading fails; the next read reports the failure."""
    try:
        return file_sha256(path)
    except OSError:
        return str(path)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
