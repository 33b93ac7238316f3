"""Turn folders, manifests and videos into face crops and the manifest train.py learns from.

    python scripts/prepare_data.py PHOTOS                              # PHOTOS/real and PHOTOS/fake (or df)
    python scripts/prepare_data.py --real MINE --fake THEIRS --out data/theirs
    python scripts/prepare_data.py FACES.csv CLIPS --frames 8          # 8 frames of each video instead of one a second
    python scripts/prepare_data.py FACES.csv --no-crops                # only look for near duplicates and cut

Of each picture, and of frames of each video, the largest face is cut out with all the surroundings that train.py may
show. Crops are PNG whatever the files were, so that nothing is compressed once more and no class is known by its
format. A video's frames, and pictures that are nearly the same, share a `group` and so never lie on both sides of a
cut; what that leak would have been worth is measured and told. Splits that a manifest gives are kept.

The same files give the same crops and the same manifest, wherever they lie. A second run makes only what is new.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import encode_png, read_image
from detector.media.kinds import IMAGE_SUFFIXES
from detector.models.spec import file_sha256
from detector.pictures.faces import FaceFinder, crop_square, finder_settings, resize
from detector.pictures.quality import MIN_FACE_PX
from detector.results import DetectorError, UnreadableMedia
from training.arguments import at_least, proportion_argument
from training.manifests import ROOT, Example, read_manifest, replace_file, split_by_group, write_manifest
from training.near_duplicates import NEAR_DUPLICATE_BITS, format_leakage, merge_near_duplicates, perceptual_hash

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what it stumbles over is told in a sentence of ours

KINDS = {"real": 0, "fake": 1, "df": 1}  # names of folders, and the label of what lies in them
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"})
MARGIN = 1.8  # side of a crop over the longer side of the face box; train.py's jitter reaches 1.69
MAX_CROP_PX = 640  # longer side of a crop; the network's part of it is still twice its input
MAX_FRAMES = 3600  # of one video: an hour at one a second
HELD_OUT_SHARE = 0.1  # of the groups
SHOWN_BITS = (8, 16, 24, 32, 40)  # distances up to which pairs are counted in the report


@dataclass(frozen=True)
class Request:
    """What is wanted of the files.

    Attributes:
        out: folder of the crops and the manifest.
        crops: whether faces are cut out; otherwise pictures stay as and where they are.
        frames: how many of each video; None takes one a second.
        threads: how many files at once.
    """

    out: Path
    crops: bool
    frames: int | None
    threads: int


@dataclass(frozen=True)
class Made:
    """What came of one file: perceptual hashes by the ending of the picture's name, or why there is nothing."""

    hashes: dict[str, str] = field(default_factory=dict)
    faceless: int = 0
    error: str = ""


def find_kinds(folder: Path) -> list[tuple[Path, int, str]]:
    """Find the folders named as in KINDS at any depth; the folder that one lies in names the source.

    Returns:
        Each with its label and its source, by name.

    Raises:
        SystemExit: there is none.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_dir()):
        *above, name = (part.lower() for part in path.relative_to(folder).parts)
        if name in KINDS and not any(part in KINDS or part.startswith(".") for part in above):
            found.append((path, KINDS[name], path.resolve().parent.name))
    if not found:
        raise SystemExit(f"There is no folder named real, fake or df in {folder}.")
    return found


def list_files(kinds: Iterable[tuple[Path, int, str]]) -> tuple[list[Example], int]:
    """List the pictures and videos, told by their suffix, in folders and the folders in them; by name.

    Args:
        kinds: folders, each with its label and its source.

    Returns:
        Examples without group and split, and how many other files there are; what begins with a dot does not count.
    """
    examples, others = [], 0
    for folder, label, source in kinds:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if any(name.startswith(".") for name in path.relative_to(folder).parts):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                examples.append(Example(path, label, source, ("camera", "unknown")[label], "", ""))
            else:
                others += 1
    return examples, others


def sample_frames(path: Path, frames: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frames of a video, the middle ones of parts of equal length, with their numbers.

    Args:
        path: the video.
        frames: how many parts; None makes each about a second long.

    Yields:
        frame_index, and the frame as (H, W, 3) uint8 RGB.

    Raises:
        UnreadableMedia: it cannot be opened, does not tell its length, or no frame can be decoded.
    """
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        count, rate_hz = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        if not video.isOpened() or count < 1 or not rate_hz > 0:
            raise UnreadableMedia("The video cannot be opened, or does not tell how long it is.")
        # The length is only what the file says of itself.
        parts = min(frames or max(1, round(count / rate_hz)), MAX_FRAMES)
        wanted = {int((part + 0.5) * count / parts) for part in range(parts)}
        decoded = 0
        for index in range(max(wanted) + 1):
            if not video.grab():
                break  # cut off: what came before it is good
            if index in wanted:
                readable, frame = video.retrieve()
                if readable:
                    decoded += 1
                    yield index, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not decoded:
        raise UnreadableMedia("No frame of the video can be decoded.")


def cut_wide(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a face out with the surroundings that training may show.

    What lies outside the picture is left for `cut_square` to mirror, so that of the crop it cuts what it would cut of
    the picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) x, y, w, h of the face in pixels.

    Returns:
        (h, w, 3) uint8 RGB, shrunk to MAX_CROP_PX where it is larger.
    """
    left, top, side, _ = crop_square(box, MARGIN, image.shape[1], image.shape[0])
    crop = image[max(top, 0) : top + side, max(left, 0) : left + side]
    scale = min(1.0, MAX_CROP_PX / max(crop.shape[:2]))
    return crop if scale == 1 else resize(crop, round(crop.shape[1] * scale), round(crop.shape[0] * scale))


def make_all(files: dict[str, Example], request: Request) -> dict[str, Made]:
    """Look at every file, cut out its faces, and remember what was made for the next run.

    Args:
        files: what to look at, by the hash of its bytes.

    Returns:
        What came of each.

    Raises:
        OSError: a crop cannot be written.
        ModelError: the face finder is not installed.
    """
    how = f"{MARGIN}, {MAX_CROP_PX}, {MIN_FACE_PX}, {finder_settings()}" if request.crops else "as it is"
    keys = {digest: f"{digest}, {how}, {_is_video(file.path) and request.frames}" for digest, file in files.items()}
    cache = request.out / ".made.json"
    remembered = json.loads(cache.read_text()) if cache.is_file() else {}
    made = {digest: Made(**remembered[key]) for digest, key in keys.items() if key in remembered}

    def is_there(digest: str) -> bool:
        return digest in made and all(
            _place(files[digest], digest, end, request).is_file() for end in made[digest].hashes
        )

    missing = [digest for digest in files if not is_there(digest)]
    finder = FaceFinder(threads=1) if missing and request.crops else None
    make = partial(_make, request=request, finder=finder)
    try:
        results = _in_parallel(make, [(digest, files[digest]) for digest in missing], request.threads, "making")
        for digest, result in zip(missing, results, strict=True):
            made[digest] = result
    finally:  # a run that is stopped keeps what it has made; what could not be read is tried again
        remembered |= {keys[digest]: asdict(result) for digest, result in made.items() if not result.error}
        replace_file(cache, lambda part: part.write_text(json.dumps(remembered)))
    return made


def choose_splits(examples: list[Example], held_out_share: float, seed: int) -> list[str]:
    """Choose a split for every group: the one its manifest gives it, else by its name and the seed.

    A group to which manifests give several is held out, since what a model is judged on must not change.

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
    if held_out_share in (0, 1):
        second = new if held_out_share else []
    elif min(map(len, groups)) < 2:  # nothing is left to learn from when one of one is held out
        second = []
    else:
        # Below 0, where no seed of train.py is: the same draw again would leave it nothing to tune on.
        _, second = split_by_group(new, held_out_share, -1 - seed)
    splits |= {example.group: "train" for example in new} | {example.group: "val" for example in second}
    return [splits[example.group] for example in examples]


def prepare(files: list[Example], request: Request, *, held_out_share: float, seed: int) -> Counter[str]:
    """Make the crops, join near duplicates, cut, write the manifest, and print what was found.

    Returns:
        What was skipped, and how often.

    Raises:
        SystemExit: a file is among the real ones and among the fakes, or nothing could be made.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    digests = list(_in_parallel(_digest, [(file.path,) for file in files], request.threads, "reading"))
    unique: dict[str, Example] = {}
    for digest, file in zip(digests, files, strict=True):
        twin = unique.setdefault(digest, file)
        if twin.label != file.label:
            raise SystemExit(
                f"{_shown(twin.path)} and {_shown(file.path)} are the same file; it cannot be real and fake. "
                "Nothing was written. Remove the wrong one."
            )
    made = make_all(unique, request)
    skipped: Counter[str] = Counter()
    for digest, result in made.items():
        if result.error:
            print(f"{_shown(unique[digest].path)}: {result.error}", file=sys.stderr)
        skipped["unreadable"] += bool(result.error)
        skipped[f"without a face of at least {MIN_FACE_PX} px"] += result.faceless

    examples, hashes = [], []
    for digest, file in zip(digests, files, strict=True):
        for end, looks in made[digest].hashes.items():
            place = _place(unique[digest], digest, end, request)
            examples.append(replace(file, path=place, group=file.group or digest[:16]))
            hashes.append(looks)
    if not examples:
        raise SystemExit(f"Nothing could be made. Skipped: {_listed(skipped)}.")
    examples = _join(examples, hashes, held_out_share, seed)

    splits = choose_splits(examples, held_out_share, seed)
    kept: dict[Path, Example] = {}
    for example, split in zip(examples, splits, strict=True):
        if example.split not in ("", split):
            skipped["near duplicates of held-out pictures"] += 1
        elif example.path in kept:
            skipped["repeated"] += 1
        else:
            kept[example.path] = replace(example, split=split)
    write_manifest(request.out / "manifest.csv", kept.values())
    counts = Counter((example.split, example.label) for example in kept.values())
    for split in sorted({split for split, _ in counts}):
        print(f"{split}: {counts[split, 0]:,} real and {counts[split, 1]:,} fake pictures")
    if held_out_share and {split for split, _ in counts} == {"train"}:
        print("Nothing is held out: at least 2 groups of each kind are needed.")
    return skipped


def _join(examples: list[Example], hashes: list[str], held_out_share: float, seed: int) -> list[Example]:
    """Give near duplicates one group, and report what parting them would have done."""
    bits = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), -1)
    labels, names = np.array([example.label for example in examples]), np.array([e.group for e in examples])
    groups, near, pairs = merge_near_duplicates(bits, names)
    members = defaultdict(set)
    for group, name in zip(groups.tolist(), names.tolist(), strict=True):
        members[group].add(name)
    merged = [group for group, found in members.items() if len(found) > 1]
    sizes = np.bincount(groups)
    print(
        f"{near.sum():,} of {len(near):,} pictures have a near duplicate in another group (up to {NEAR_DUPLICATE_BITS} bits)."
    )
    print("  Pairs from different groups: " + ", ".join(f"{pairs[: n + 1].sum():,} up to {n} bits" for n in SHOWN_BITS))
    if merged:
        joined = sum(len(members[group]) for group in merged)
        print(f"  {joined:,} groups become {len(merged):,}, the largest of {sizes[merged].max():,} pictures.")

    def held_out(cut: list[Example]) -> np.ndarray:
        splits = choose_splits(cut, held_out_share, seed)
        return np.array([(example.split or split) != "train" for example, split in zip(cut, splits, strict=True)])

    if len(np.unique(names)) < len(names):
        single = [replace(example, group=str(i), split="") for i, example in enumerate(examples)]
        format_leakage(
            "Cut picture by picture, {} have one of their group among those that are learned from.",
            labels,
            bits,
            groups,
            held_out(single),
        )
    format_leakage(
        "Cut by group alone, {} have a near duplicate among those that are learned from.",
        labels,
        bits,
        groups,
        held_out(examples),
    )
    return [replace(example, group=min(members[group])) for example, group in zip(examples, groups, strict=True)]


def _make(digest: str, file: Example, *, request: Request, finder: FaceFinder | None) -> Made:
    """Hash the pictures of one file and, given a finder, write the largest face of each."""
    hashes, faceless = {}, 0
    try:
        for end, image in _pictures(file.path, request.frames):
            if finder:
                faces = finder.find_faces(image)
                if not faces or max(faces[0].box[2:]) < MIN_FACE_PX:
                    faceless += 1
                    continue
                place, crop = _place(file, digest, end, request), encode_png(cut_wide(image, faces[0].box))
                place.parent.mkdir(exist_ok=True)
                replace_file(place, lambda part, crop=crop: part.write_bytes(crop))
            hashes[end] = perceptual_hash(image)
    except DetectorError as error:
        return Made(error=str(error))
    return Made(hashes, faceless)


def _pictures(path: Path, frames: int | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the pictures of a file, each with the ending that tells it from the file's others."""
    if _is_video(path):
        for index, frame in sample_frames(path, frames):
            yield f"-frame{index:06d}", frame
    else:
        yield "", read_image(path)


def _place(file: Example, digest: str, end: str, request: Request) -> Path:
    """Return where a picture of a file is: its crop, or itself."""
    if not request.crops:
        return file.path
    stem = re.sub(r"[^A-Za-z0-9]+", "-", file.path.stem)[:40].strip("-") or "picture"
    return request.out / ("real", "fake")[file.label] / f"{stem}-{digest[:16]}{end}.png"


def _in_parallel(work: Callable, items: list[tuple], threads: int, what: str) -> Iterator[Any]:
    """Yield what `work` makes of each item, in their order; a stop does not wait for those not begun."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from tqdm(pool.map(lambda item: work(*item), items), total=len(items), desc=what, unit="file")
        finally:
            pool.shutdown(cancel_futures=True)


def _digest(path: Path) -> str:
    """Return the hash of a file's bytes, or its path where reading fails, as it then will again, with a sentence."""
    try:
        return file_sha256(path)
    except OSError:
        return str(path)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"


def _shown(path: Path) -> str:
    return repr(str(path))  # a name may hold control characters


def main(argv: list[str] | None = None) -> None:
    """Prepare what is named; exits with a sentence where nothing could be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs", type=Path, nargs="*", help="folders that hold folders named real, fake or df, and manifests (.csv)"
    )
    parser.add_argument("--real", type=Path, nargs="+", default=[], metavar="DIR", help="folders of real pictures")
    parser.add_argument("--fake", type=Path, nargs="+", default=[], metavar="DIR", help="folders of fakes")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "prepared")
    parser.add_argument("--frames", type=at_least(1), help="of each video (default: one a second)")
    parser.add_argument("--no-crops", action="store_true", help="leave pictures as they are; only look and cut")
    parser.add_argument(
        "--val-share", type=proportion_argument, default=HELD_OUT_SHARE, help="share of groups held out (default 0.1)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of that cut")
    parser.add_argument("--resplit", action="store_true", help="cut anew what a manifest has cut")
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count())
    options = parser.parse_args(argv)
    if not (options.inputs or options.real or options.fake):
        parser.error("name folders or manifests, or give --real and --fake")
    manifests = [path for path in options.inputs if path.suffix.lower() == ".csv"]
    folders = [path for path in options.inputs if path not in manifests]
    for folder in [*folders, *options.real, *options.fake]:
        if not folder.is_dir():
            raise SystemExit(f"There is no folder {folder}.")
        if options.out.resolve().is_relative_to(folder.resolve()):
            raise SystemExit(f"--out {options.out} lies in {folder}: the next run would take crops for pictures.")
    if any(path.resolve() == (options.out / "manifest.csv").resolve() for path in manifests):
        raise SystemExit(f"The result would overwrite {options.out / 'manifest.csv'}; give another --out.")
    kinds = [kind for folder in folders for kind in find_kinds(folder)]
    kinds += [(folder, 0, folder.resolve().name) for folder in options.real]
    kinds += [(folder, 1, folder.resolve().name) for folder in options.fake]
    found, others = list_files(kinds)
    listed = [example for manifest in manifests for example in read_manifest(manifest)]
    files = [replace(example, split="") for example in listed] if options.resplit else listed
    files += found
    if not files:
        raise SystemExit("There are no pictures and no videos by name in what was named.")
    if options.no_crops and any(_is_video(file.path) for file in files):
        raise SystemExit("--no-crops takes no videos, since train.py reads pictures.")

    cv2.setNumThreads(1)  # the pool is the parallelism
    request = Request(options.out, not options.no_crops, options.frames, options.threads)
    try:
        skipped = prepare(files, request, held_out_share=options.val_share, seed=options.seed)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from here.") from None
    except OSError as error:
        raise SystemExit(f"The result cannot be written: {error}") from error
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    skipped["neither picture nor video by name"] = others
    print(f"skipped: {_listed(skipped)}")
    print(
        f"wrote {options.out / 'manifest.csv'}; next: python scripts/train.py --manifest {options.out / 'manifest.csv'}"
    )


if __name__ == "__main__":
    main()
