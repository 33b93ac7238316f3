"""Ask whether what should not matter still tells fakes from reals, in the stored files and in what the network sees.

    python scripts/audit_shortcuts.py                       # data/synthetic_data/manifest.csv
    python scripts/audit_shortcuts.py --manifest FACES.csv --sources
    python scripts/audit_shortcuts.py --manifest FACES.csv --undamaged       # what the damage is worth
    python scripts/audit_shortcuts.py --manifest FACES.csv --self-blend 1    # reals against fakes made of them

A small classifier is trained on a few numbers a picture, never on its pixels, and judged on other groups: once on the
stored files ("before", every picture as often as any other), once on the very batches of train.Stream ("after", sources
balanced as in training). The numbers are of two kinds. Delivery is a file's history: sizes, compression, scaling; a
network that learns it has learned which site a picture came from, so after preprocessing nothing of it may be left.
Look is colour, sharpness and noise; they are partly what generators get wrong, so they are shown beside and not judged.
Ends with status 1 and a sentence when delivery still separates.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from tqdm import tqdm

from detector.media.images import encode_jpeg, read_image
from detector.metrics import Estimate, auc, roc_auc
from detector.results import ModelError
from training.batches import BatchGenerator
from training.manifests import ROOT, Example, LocatedFace, locate_faces, read_manifest
from training.settings import RECONSTRUCT, SELF_BLEND, TrainingSettings

# The AUC may not pass this. An AUC of .60 is where delivery alone would catch 6.4 % of the
# fakes at 3 % false alarms (two normal distributions), about twice as many as chance. It cannot be .50: how many bits
# a picture takes also depends on what it shows. `--only dfdc`, whose swaps and reals all have one side and one JPEG
# table, so that history hardly differs, is at .57 (.55 to .59).
LIMIT = 0.60
FILE = (
    *("bytes", "bits_per_pixel", "width", "height", "aspect", "luma_table", "chroma_table", "quality"),
    *("chroma_subsampling", "progressive", "exif", "colour_profile"),
)
TRACES = ("jpeg50_bits", "jpeg90_bits", "blockiness", "grid_strength", "grid_frequency", "bandwidth")
DELIVERY_FEATURES = FILE + TRACES
PIXEL_FEATURES = ("red", "green", "blue", "colourfulness", "contrast", "sharpness", "noise")
PARTS = 20  # streams apart from each other; what the intervals after preprocessing are drawn over
FOLDS = 5
SHORTCUT_BATCH = 20
SHOWN = 6  # features that tell most
BLOCK_PX = 8  # side of a JPEG block
FINEST_PERIOD_PX, COARSEST_PERIOD_PX = 2, 13  # of a grid; blocks of 8 pixels and their harmonics after a scaling
GRID_BINS = 256
STANDARD_LUMA_MEAN = 57.625  # of the table in Annex K of the JPEG standard, which is libjpeg's quality 50


@dataclass(frozen=True)
class Measured:
    """Numbers of N pictures: `values` {name: (N,)}, `labels` (N,) 1 = fake, `groups` (N,) what belongs together."""

    values: dict[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


def measure_file(path: Path) -> dict[str, float]:
    """Return FILE, what a picture's file tells before any pixel is decoded; a table of 0 is a lossless file's."""
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None) or {0: [0]}
        luma = float(np.mean(tables[0]))
        scale = 100 * luma / STANDARD_LUMA_MEAN
        width, height = image.size
        size_bytes = path.stat().st_size
        return {
            "bytes": size_bytes,
            "bits_per_pixel": 8 * size_bytes / (width * height),
            "width": width,
            "height": height,
            "aspect": width / height,
            "luma_table": luma,
            "chroma_table": float(np.mean(tables[max(tables)])),
            "quality": 100 - scale / 2 if scale <= 100 else 5000 / scale,  # libjpeg's rule backwards
            "chroma_subsampling": JpegImagePlugin.get_sampling(image) if image.format == "JPEG" else -1,
            "progressive": "progressive" in image.info,
            "exif": "exif" in image.info,
            "colour_profile": "icc_profile" in image.info,
        }


def measure_pixels(image: np.ndarray) -> dict[str, float]:
    """Return TRACES and LOOK of a picture, stored or as the network sees it.

    Args:
        image: (H, W, 3) uint8 RGB.

    Source:
        Gallagher, "Detection of Linear and Cubic Interpolation in JPEG Compressed Images", 2005, for the spectrum of
        second differences, which shows the blocks of a compression even after a scaling, and by which factor;
        Immerkaer, "Fast Noise Variance Estimation", 1996, for a mask that sees few edges.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    corners = cv2.filter2D(grey, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6)
    strength, frequency = _grid(grey)
    red, green, blue = image.mean(axis=(0, 1))
    return {
        "jpeg50_bits": 8 * len(encode_jpeg(image, quality=50)) / grey.size,
        "jpeg90_bits": 8 * len(encode_jpeg(image, quality=90)) / grey.size,
        "blockiness": _blockiness(grey),
        "grid_strength": strength,
        "grid_frequency": frequency,
        "bandwidth": _bandwidth(grey),
        "red": red,
        "green": green,
        "blue": blue,
        "colourfulness": float(np.abs(image - grey[..., None]).mean()),  # 0: a grey picture
        "contrast": float(grey.std()),
        "sharpness": float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        "noise": float(np.abs(corners).mean()),
    }


def _blockiness(grey: np.ndarray) -> float:
    """Return how much larger steps are on the strongest of the 8 possible grids of blocks than on a middling one."""
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        phases = [steps[i::BLOCK_PX].mean() for i in range(BLOCK_PX)]
        ratios.append((max(phases) + 0.1) / (np.median(phases) + 0.1))
    return float(np.mean(ratios))


def _grid(grey: np.ndarray) -> tuple[float, float]:
    """Return how far the strongest period of a picture's rows and columns stands out, and its frequency in 1/pixels."""
    side = min(grey.shape)
    spectrum = np.zeros(GRID_BINS // 2 + 1)
    for axis in (0, 1):
        bends = np.log(np.abs(np.diff(grey[:side, :side], 2, axis=axis)).mean(axis=1 - axis) + 0.1)
        bends -= cv2.GaussianBlur(bends[None], (0, 0), 3)[0]  # what the picture shows varies slowly
        spectrum += np.abs(np.fft.rfft(bends * np.hanning(len(bends)), GRID_BINS))
    frequencies = np.fft.rfftfreq(GRID_BINS)
    searched = (frequencies >= 1 / COARSEST_PERIOD_PX) & (frequencies <= 1 / FINEST_PERIOD_PX)
    spectrum, frequencies = spectrum[searched], frequencies[searched]
    return float(spectrum.max() / (np.median(spectrum) + 1e-6)), float(frequencies[spectrum.argmax()])


def _bandwidth(grey: np.ndarray) -> float:
    """Return by how much the finest details are weaker than the next ones: an enlarged picture has none of them."""
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / grey.size
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1]))
    finest, next_finest = (power[(radius >= low) & (radius < low + 1 / 8)].mean() for low in (3 / 8, 1 / 4))
    return float(np.log((finest + 1e-6) / (next_finest + 1e-6)))


def measure_stored(examples: list[Example], samples: int) -> Measured:
    """Measure at most `samples` stored files, drawn at random."""
    drawn = np.random.default_rng(0).permutation(len(examples))[:samples]
    chosen = [examples[i] for i in drawn]

    def measure(example: Example) -> dict[str, float]:
        return measure_file(example.path) | measure_pixels(read_image(example.path))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(tqdm(pool.map(measure, chosen), total=len(chosen), desc="stored files", unit="picture"))
    return _measured(rows, (example.label for example in chosen), (example.group for example in chosen))


def measure_fed(
    examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings, samples: int
) -> Measured:
    """Measure about `samples` pictures as the network is fed them.

    A stream tells no groups, and shows pictures of a small source many times. So the groups are dealt to PARTS with a
    stream each; what comes out of one part belongs together.

    Raises:
        SystemExit: a label has fewer groups than there are parts.
        ModelError: reconstructions are asked for and there are no autoencoders.
    """
    labels, groups = np.array([e.label for e in examples]), np.array([e.group for e in examples])
    if (fewest := min(len(np.unique(groups[labels == label])) for label in (0, 1))) < PARTS:
        raise SystemExit(f"At least {PARTS} groups each of real and of fake pictures are needed, {fewest} found.")
    rows, fed_labels, parts = [], [], []
    steps = max(1, samples // (PARTS * SHORTCUT_BATCH))
    deal = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0).split(labels, labels, groups)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=steps * PARTS * SHORTCUT_BATCH, desc="fed to the network", unit="picture") as progress,
    ):
        for part, (_, members) in enumerate(deal):
            # A seed each: streams of one seed damage alike at the same place, and the places are the labels.
            own = replace(settings, seed=part, batch=SHORTCUT_BATCH)
            stream = BatchGenerator([examples[i] for i in members], [faces[i] for i in members], own)
            for pixels, targets in stream.batches(0, steps, pool):
                rows += pool.map(measure_pixels, pixels)
                fed_labels += targets[:, 0].astype(int).tolist()
                parts += [part] * len(pixels)
                progress.update(len(pixels))
    return _measured(rows, fed_labels, parts)


def _measured(rows: list[dict[str, float]], labels: Iterable[int], groups: Iterable[object]) -> Measured:
    values = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    return Measured(values, np.array(list(labels)), np.array(list(groups)))


def separate(measured: Measured, names: Iterable[str]) -> Estimate:
    """Estimate the AUC of a small classifier on the numbers called `names`, judged on groups new to it."""
    return auc(measured.labels, _scores(measured, names), measured.groups)


def most_telling(measured: Measured) -> list[tuple[str, Estimate]]:
    """Return the SHOWN numbers that separate best alone, by the same classifier: one may tell by lying in between."""
    scores = {name: _scores(measured, [name]) for name in measured.values}
    best = sorted(scores, key=lambda name: roc_auc(measured.labels, scores[name]), reverse=True)[:SHOWN]
    return [(name, auc(measured.labels, scores[name], measured.groups)) for name in best]


def _scores(measured: Measured, names: Iterable[str]) -> np.ndarray:
    columns = np.stack([measured.values[name] for name in names if name in measured.values], axis=1)
    # Trees need no scaling and find what lies in between, such as the one JPEG quality that only fakes have.
    classifier = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0)
    folds = GroupKFold(FOLDS)
    chances = cross_val_predict(
        classifier, columns, measured.labels, groups=measured.groups, cv=folds, method="predict_proba"
    )
    return chances[:, 1]


def classify(delivery: Estimate) -> tuple[bool, str]:
    """Say whether what is left of delivery is little enough, and the sentence for it."""
    seen = f"after preprocessing delivery alone separates fakes from reals with AUC {shown(delivery)}, n {delivery.n}"
    if delivery.value > LIMIT:
        return False, f"FAILED: {seen}; at most {LIMIT:.2f} may be left. The network could learn it."
    if delivery.high > LIMIT:
        return True, f"Passed, but not surely: {seen}; more --samples would tell whether it is over {LIMIT:.2f}."
    return True, f"Passed: {seen}; the limit is {LIMIT:.2f}."


def shown(estimate: Estimate) -> str:
    """Return a figure with its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def print_tables(before: Measured, after: Measured, delivery: Estimate) -> None:
    """Print what each kind of numbers is worth, and each number alone."""
    print(f"| classifier on | before, n {len(before.labels)} | after, n {len(after.labels)} |\n| --- | --- | --- |")
    print(f"| delivery | {shown(separate(before, DELIVERY_FEATURES))} | {shown(delivery)} |")
    for kind, names in (("look", PIXEL_FEATURES), ("both", DELIVERY_FEATURES + PIXEL_FEATURES)):
        print(f"| {kind} | {shown(separate(before, names))} | {shown(separate(after, names))} |")
    for when, measured in (("before", before), ("after", after)):
        print(f"| most telling alone, {when} | kind | AUC | median of reals | median of fakes |\n|{' --- |' * 5}")
        for name, estimate in most_telling(measured):
            kind = "delivery" if name in DELIVERY_FEATURES else "look"
            real, fake = (np.median(measured.values[name][measured.labels == label]) for label in (0, 1))
            print(f"| {name} | {kind} | {shown(estimate)} | {real:.4g} | {fake:.4g} |")


def print_sources(examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings, samples: int) -> None:
    """Print how well each source of reals with at least PARTS groups can be told from the others by its delivery."""
    reals = [(example, face) for example, face in zip(examples, faces, strict=True) if example.label == 0]
    plain = replace(settings, self_blend=0.0, reconstruct=0.0)
    groups = Counter(source for source, _ in {(example.source, example.group) for example, _ in reals})
    print("| reals of this source among all reals, by delivery | before | after |\n| --- | --- | --- |")
    for source in sorted(source for source, count in groups.items() if PARTS <= count <= groups.total() - PARTS):
        asked = [replace(example, label=int(example.source == source)) for example, _ in reals]
        before = separate(measure_stored(asked, samples), DELIVERY_FEATURES)
        after = separate(measure_fed(asked, [face for _, face in reals], plain, samples), DELIVERY_FEATURES)
        print(f"| {source} | {shown(before)}, n {before.n} | {shown(after)}, n {after.n} |")


def main(argv: list[str] | None = None) -> None:
    """Measure before and after, print, and fail where file history is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--split", default="train")
    parser.add_argument("--only", nargs="*", metavar="SOURCE", help="audit these sources alone")
    parser.add_argument("--samples", type=int, default=4000, help="pictures measured before and after (default 4000)")
    parser.add_argument("--size", type=int, default=192, help="side of the network's input in pixels (default 192)")
    parser.add_argument("--self-blend", type=float, default=SELF_BLEND, help="share of the fakes blended from reals")
    parser.add_argument("--reconstruct", type=float, default=RECONSTRUCT, help="share rebuilt by autoencoders")
    parser.add_argument("--undamaged", action="store_true", help="leave out recompression, scaling, blur and light")
    parser.add_argument("--sources", action="store_true", help="also tell each source of reals from the others")
    options = parser.parse_args(argv)
    if options.samples < PARTS * SHORTCUT_BATCH:
        parser.error(f"--samples is {options.samples}; under {PARTS * SHORTCUT_BATCH} nothing can be told")
    if min(options.self_blend, options.reconstruct) < 0 or options.self_blend + options.reconstruct > 1:
        parser.error("--self-blend and --reconstruct are shares of the same fakes; together they are at most 1")
    examples = [example for example in read_manifest(options.manifest) if example.split == options.split]
    if options.only:
        examples = [example for example in examples if example.source in options.only]
    settings = TrainingSettings(
        manifest=str(options.manifest),
        manifest_sha256="",
        network="",
        weights="",
        weights_sha256="",
        input_size_px=options.size,
        epochs=1,
        epoch_samples=options.samples,
        batch=SHORTCUT_BATCH,
        self_blend=options.self_blend,
        seed=0,
        reconstruct=options.reconstruct,
        damaged=not options.undamaged,
    )
    cv2.setNumThreads(1)  # the pools are the parallelism
    faces = locate_faces(examples)
    try:
        after = measure_fed(examples, faces, settings, options.samples)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    before = measure_stored(examples, options.samples)
    delivery = separate(after, DELIVERY_FEATURES)
    print_tables(before, after, delivery)
    if options.sources:
        print_sources(examples, faces, settings, options.samples)
    passed, sentence = classify(delivery)
    if not passed:
        raise SystemExit(sentence)
    print(sentence)


if __name__ == "__main__":
    main()
