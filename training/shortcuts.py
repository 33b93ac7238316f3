"""Audit for shortcuts: how well file history, and a few numbers of the crops, separate fakes from reals."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from detector.media.images import encode_jpeg, read_image
from detector.media.jpeg import read_jpeg_coding
from detector.metrics import Estimate, auc, roc_auc
from detector.pictures.faces import cut_square
from detector.results import ModelError
from training.batches import BatchGenerator
from training.image_statistics import contrast, effective_size, noise, sharpness
from training.manifests import ROOT, Example, LocatedFace, face_square, locate_faces, read_manifest
from training.settings import RECONSTRUCT, SELF_BLEND, TrainingSettings
from training.tables import format_estimate, format_header, format_row

# Largest accepted AUC after preprocessing. At .60, file history alone would catch 6.4 % of the fakes at 3 % false
# alarms (two normal distributions), about twice as many as chance. The limit cannot be .50: the bits a picture takes
# also depend on its content. `--only dfdc`, whose swaps and reals all have one side and one JPEG table, so that their
# history hardly differs, is at .57 (.55 to .59).
MAX_HISTORY_AUC = 0.60
FILE_FEATURES = (
    *("bytes", "bits_per_pixel", "width", "height", "aspect", "luma_table", "chroma_table", "quality"),
    *("chroma_subsampling", "progressive", "exif", "colour_profile"),
)
TRACE_FEATURES = ("jpeg50_bits", "jpeg90_bits", "blockiness", "grid_strength", "grid_frequency", "bandwidth")
HISTORY_FEATURES = FILE_FEATURES + TRACE_FEATURES
APPEARANCE_FEATURES = ("red", "green", "blue", "colourfulness", "contrast", "sharpness", "noise")
# A network that leans on one of these is right or wrong by collection. Each alone and all together may reach this AUC,
# in either direction, on what the network is fed.
MAX_STATISTICS_AUC = 0.55
STATISTICS = ("sharpness", "face_size_px", "noise", "contrast")
LOSSLESS_QUALITY = 100  # of a file without quantisation tables
AUDIT_PARTS = 20  # batch generators over disjoint groups; intervals after preprocessing are resampled over them
STATISTICS_PARTS = 10  # fewer and larger: batches that are matched by these numbers need enough pictures to choose from
AUDIT_FOLDS = 5
AUDIT_TREES = 40
SHORTCUT_BATCH = 20
SHOWN_FEATURES = 6  # features printed with their own AUC
BLOCK_PX = 8  # side of a JPEG block
FINEST_PERIOD_PX, COARSEST_PERIOD_PX = 2, 13  # of a grid; blocks of 8 pixels and their harmonics after scaling
GRID_BINS = 256


@dataclass(frozen=True)
class AuditOptions:
    """The command line of audit_shortcuts.py.

    Attributes:
        manifest: manifest of labelled pictures
        split: split of the manifest
        only: audit these sources alone
        samples: pictures measured before and after preprocessing
        size: side of the network's input in pixels
        self_blend: proportion of the fakes blended from reals
        reconstruct: proportion of the fakes rebuilt by autoencoders
        undamaged: leave out recompression, scaling, blur and light
        sources: also separate each source of reals from the others
        check: history is sizes, compression and scaling; statistics is sharpness, size, noise and contrast of a face,
            for each fold that is left out of training
    """

    manifest: Path = ROOT / "data" / "synthetic_data" / "manifest.csv"
    split: str = "train"
    only: tuple[str, ...] = ()
    samples: int = 4000
    size: int = 192
    self_blend: float = SELF_BLEND
    reconstruct: float = RECONSTRUCT
    undamaged: bool = False
    sources: bool = False
    check: Literal["all", "history", "statistics"] = "all"

    def __post_init__(self) -> None:
        if self.samples < AUDIT_PARTS * SHORTCUT_BATCH:
            raise ValueError(f"--samples is {self.samples}; the audit needs at least {AUDIT_PARTS * SHORTCUT_BATCH}")
        if min(self.self_blend, self.reconstruct) < 0 or self.self_blend + self.reconstruct > 1:
            raise ValueError("--self-blend and --reconstruct are proportions of the same fakes; their sum is at most 1")


@dataclass(frozen=True)
class Measured:
    """Features of N pictures.

    Attributes:
        values: by feature, (N,) floats.
        labels: (N,) 1 = fake.
        groups: (N,) equal for pictures that belong together.
    """

    values: dict[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray

    def chosen(self, mask: np.ndarray) -> Measured:
        """Return the pictures where `mask`, (N,) booleans, is true."""
        values = {name: column[mask] for name, column in self.values.items()}
        return Measured(values, self.labels[mask], self.groups[mask])


def audit_shortcuts(options: AuditOptions) -> None:
    """Measure pictures before and after preprocessing, and print how well each kind of features separates them.

    Raises:
        SystemExit: file history or the statistics separate the labels after preprocessing, or there are too few groups.
    """
    examples = [example for example in read_manifest(options.manifest) if example.split == options.split]
    if options.only:
        examples = [example for example in examples if example.source in options.only]
    settings = batch_settings(options)
    cv2.setNumThreads(1)  # the pools are the parallelism
    faces = locate_faces(examples)
    results = []
    try:
        if options.check != "statistics":
            results.append(_audit_history(examples, faces, settings, options))
        if options.check != "history":
            results.append(_audit_statistics(examples, faces, settings, options.samples))
    except ModelError as error:
        raise SystemExit(str(error)) from error
    sentences = "\n".join(sentence for _, sentence in results)
    if not all(passed for passed, _ in results):
        raise SystemExit(sentences)
    print(sentences)


def _audit_history(
    examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings, options: AuditOptions
) -> tuple[bool, str]:
    after = measure_fed(examples, faces, settings, options.samples)
    before = measure_stored(examples, options.samples)
    history = separate(after, HISTORY_FEATURES)
    print_tables(before, after, history)
    if options.sources:
        print_sources(examples, faces, settings, options.samples)
    return assess_history(history)


def _audit_statistics(
    examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings, samples: int
) -> tuple[bool, str]:
    """Print a row for the whole manifest and for each fold left out, before and after preprocessing."""
    drawn = np.random.default_rng(0).permutation(len(examples))[:samples]
    stored = measure_stored_faces([examples[i] for i in drawn], [faces[i] for i in drawn])
    folds = np.array([-1 if example.fold is None else example.fold for example in examples])
    after: dict[str, dict[str, Estimate]] = {}
    print(format_header("each number alone, AUC", "when", "n", *STATISTICS, "all, classifier"))
    for fold in (None, *np.unique(folds[folds >= 0]).tolist()):
        learned = folds != fold  # of every picture where no fold is left out
        name = "all pictures" if fold is None else f"all but fold {fold}"
        kept = np.flatnonzero(learned)
        fed = measure_fed(
            [examples[i] for i in kept],
            [faces[i] for i in kept],
            settings,
            samples,
            measure=measure_statistics,
            parts=STATISTICS_PARTS,
        )
        after[name] = separate_by_statistics(fed)
        for when, found in (("before", separate_by_statistics(stored.chosen(learned[drawn]))), ("after", after[name])):
            row = (format_estimate(each) for each in found.values())
            print(format_row(name, when, found["all"].n, *row), flush=True)
    return assess_statistics(after)


def batch_settings(options: AuditOptions) -> TrainingSettings:
    """Return the settings of the batches that the network would be fed."""
    return TrainingSettings(
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


def measure_file(path: Path) -> dict[str, float]:
    """Return FILE_FEATURES, which need no decoding; the tables of a lossless file count as 0."""
    data = path.read_bytes()
    coding = read_jpeg_coding(data)
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        return {
            "bytes": len(data),
            "bits_per_pixel": 8 * len(data) / (width * height),
            "width": width,
            "height": height,
            "aspect": width / height,
            "luma_table": float(np.mean(coding.tables[0])) if coding else 0.0,
            "chroma_table": float(np.mean(coding.tables[-1])) if coding else 0.0,
            "quality": coding.quality if coding else LOSSLESS_QUALITY,
            "chroma_subsampling": JpegImagePlugin.get_sampling(image) if image.format == "JPEG" else -1,
            "progressive": "progressive" in image.info,
            "exif": "exif" in image.info,
            "colour_profile": "icc_profile" in image.info,
        }


def measure_pixels(image: np.ndarray) -> dict[str, float]:
    """Return TRACE_FEATURES and APPEARANCE_FEATURES of a picture, as stored or as the network sees it.

    Args:
        image: (H, W, 3) uint8 RGB.

    Source:
        Gallagher, "Detection of Linear and Cubic Interpolation in JPEG Compressed Images", 2005, for the spectrum of
        second differences, which shows the blocks of a compression after scaling, and the factor.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength, frequency = _strongest_period(grey)
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
        "contrast": contrast(image),
        "sharpness": sharpness(image),
        "noise": noise(image),
    }


def measure_statistics(crop: np.ndarray) -> dict[str, float]:
    """Return STATISTICS of a crop (S, S, 3) uint8 RGB as the network sees it.

    All crops have one side by then, so the size of the face is that of its detail.
    """
    return {
        "sharpness": sharpness(crop),
        "face_size_px": effective_size(crop),
        "noise": noise(crop),
        "contrast": contrast(crop),
    }


def _blockiness(grey: np.ndarray) -> float:
    """Return the ratio of the steps on the strongest of the 8 possible block grids to those on the median one."""
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        phases = [steps[i::BLOCK_PX].mean() for i in range(BLOCK_PX)]
        ratios.append((max(phases) + 0.1) / (np.median(phases) + 0.1))
    return float(np.mean(ratios))


def _strongest_period(grey: np.ndarray) -> tuple[float, float]:
    """Return how far the strongest period of rows and columns exceeds the median, and its frequency in 1/pixels."""
    side = min(grey.shape)
    spectrum = np.zeros(GRID_BINS // 2 + 1)
    for axis in (0, 1):
        bends = np.log(np.abs(np.diff(grey[:side, :side], 2, axis=axis)).mean(axis=1 - axis) + 0.1)
        bends -= cv2.GaussianBlur(bends[None], (0, 0), 3)[0]  # the picture's content varies slowly
        spectrum += np.abs(np.fft.rfft(bends * np.hanning(len(bends)), GRID_BINS))
    frequencies = np.fft.rfftfreq(GRID_BINS)
    searched = (frequencies >= 1 / COARSEST_PERIOD_PX) & (frequencies <= 1 / FINEST_PERIOD_PX)
    spectrum, frequencies = spectrum[searched], frequencies[searched]
    return float(spectrum.max() / (np.median(spectrum) + 1e-6)), float(frequencies[spectrum.argmax()])


def _bandwidth(grey: np.ndarray) -> float:
    """Return the log ratio of the power in the finest octave band to the next; enlarging removes the finest."""
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / grey.size
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1]))
    finest, next_finest = (power[(radius >= low) & (radius < low + 1 / 8)].mean() for low in (3 / 8, 1 / 4))
    return float(np.log((finest + 1e-6) / (next_finest + 1e-6)))


def measure_stored(examples: list[Example], samples: int) -> Measured:
    """Measure at most `samples` randomly drawn stored files."""
    drawn = np.random.default_rng(0).permutation(len(examples))[:samples]
    chosen = [examples[i] for i in drawn]

    def measure_example(example: Example) -> dict[str, float]:
        return measure_file(example.path) | measure_pixels(read_image(example.path))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(tqdm(pool.map(measure_example, chosen), total=len(chosen), desc="stored files", unit="picture"))
    return _measured(rows, (example.label for example in chosen), (example.group for example in chosen))


def measure_stored_faces(examples: list[Example], faces: list[LocatedFace]) -> Measured:
    """Measure STATISTICS of the faces, cut out of the stored files and not scaled."""

    def measure_face(example: Example, face: LocatedFace) -> dict[str, float]:
        image = read_image(example.path)
        crop = cut_square(image, face_square(face, 1.0, image.shape[1], image.shape[0]))
        return measure_statistics(crop) | {"face_size_px": float(max(face.box[2:]))}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(measure_face, examples, faces)
        rows = list(tqdm(measured, total=len(examples), desc="stored faces", unit="picture"))
    return _measured(rows, (example.label for example in examples), (example.group for example in examples))


def measure_fed(
    examples: list[Example],
    faces: list[LocatedFace],
    settings: TrainingSettings,
    samples: int,
    *,
    measure: Callable[[np.ndarray], dict[str, float]] = measure_pixels,
    parts: int | None = None,
) -> Measured:
    """Measure about `samples` pictures as the network is fed them.

    Batches carry no groups, and repeat the pictures of a small source. The groups are therefore split into parts with a
    batch generator each, and the parts serve as groups.

    Args:
        examples: pictures to learn from.
        faces: the face of each.
        settings: of the batches.
        samples: how many.
        measure: returns the features of one crop (S, S, 3) uint8 RGB.
        parts: how many; None takes AUDIT_PARTS.

    Raises:
        SystemExit: a label has fewer groups than there are parts.
        ModelError: reconstructions are requested and there are no autoencoders.
    """
    parts = AUDIT_PARTS if parts is None else parts
    labels, groups = np.array([e.label for e in examples]), np.array([e.group for e in examples])
    if (fewest := min(len(np.unique(groups[labels == label])) for label in (0, 1))) < parts:
        raise SystemExit(f"At least {parts} groups each of real and of fake pictures are needed, {fewest} found.")
    rows: list[dict[str, float]] = []
    fed_labels: list[int] = []
    part_of_each: list[int] = []
    steps = max(1, samples // (parts * SHORTCUT_BATCH))
    splits = StratifiedGroupKFold(parts, shuffle=True, random_state=0).split(labels, labels, groups)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=steps * parts * SHORTCUT_BATCH, desc="fed to the network", unit="picture") as progress,
    ):
        for part, (_, members) in enumerate(splits):
            # Generators with one seed degrade equal positions alike, and positions decide the labels: one seed each.
            own = replace(settings, seed=part, batch=SHORTCUT_BATCH)
            generator = BatchGenerator([examples[i] for i in members], [faces[i] for i in members], own)
            for pixels, targets in generator.batches(0, steps, pool):
                rows += pool.map(measure, pixels)
                fed_labels += targets[:, 0].astype(int).tolist()
                part_of_each += [part] * len(pixels)
                progress.update(len(pixels))
    return _measured(rows, fed_labels, part_of_each)


def _measured(rows: list[dict[str, float]], labels: Iterable[int], groups: Iterable[object]) -> Measured:
    values = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    return Measured(values, np.array(list(labels)), np.array(list(groups)))


def separate(measured: Measured, names: Iterable[str]) -> Estimate:
    """Estimate the AUC of a small classifier on the named features, on groups it was not fitted on."""
    return auc(measured.labels, _cross_validated_scores(measured, names), measured.groups)


def separate_by_statistics(measured: Measured) -> dict[str, Estimate]:
    """Estimate the AUC of each number alone as a score, at least .5 whichever label has more, and of all together."""
    found = {}
    for name in STATISTICS:
        values = measured.values[name]
        rising, falling = (roc_auc(measured.labels, sign * values) for sign in (1, -1))
        found[name] = auc(measured.labels, values if rising >= falling else -values, measured.groups)
    return found | {"all": separate(measured, STATISTICS)}


def strongest_features(measured: Measured) -> list[tuple[str, Estimate]]:
    """Return the SHOWN_FEATURES features, each with the AUC of the same classifier on it alone."""
    scores = {name: _cross_validated_scores(measured, [name]) for name in measured.values}
    best = sorted(scores, key=lambda name: roc_auc(measured.labels, scores[name]), reverse=True)[:SHOWN_FEATURES]
    return [(name, auc(measured.labels, scores[name], measured.groups)) for name in best]


def _cross_validated_scores(measured: Measured, names: Iterable[str]) -> np.ndarray:
    columns = np.stack([measured.values[name] for name in names if name in measured.values], axis=1)
    # Trees need no scaling and separate values in between, such as a JPEG quality that only fakes have.
    classifier = HistGradientBoostingClassifier(max_iter=AUDIT_TREES, max_leaf_nodes=8, random_state=0)
    folds = GroupKFold(AUDIT_FOLDS)
    # The fits are too small to share: on a busy machine, OpenMP threads waiting for each other took 60 times longer.
    with threadpool_limits(1, user_api="openmp"):
        chances = cross_val_predict(
            classifier, columns, measured.labels, groups=measured.groups, cv=folds, method="predict_proba"
        )
    return np.asarray(chances)[:, 1]


def assess_history(history: Estimate) -> tuple[bool, str]:
    """Return whether the AUC of file history after preprocessing is within the limit, and a sentence."""
    seen = (
        f"after preprocessing file history alone separates fakes from reals with AUC {format_estimate(history)}, "
        f"n {history.n}"
    )
    if history.value > MAX_HISTORY_AUC:
        return False, f"FAILED: {seen}; the limit is {MAX_HISTORY_AUC:.2f}. The network could learn it."
    if history.high > MAX_HISTORY_AUC:
        return (
            True,
            f"Passed, but not surely: {seen}; more --samples would show whether it exceeds {MAX_HISTORY_AUC:.2f}.",
        )
    return True, f"Passed: {seen}; the limit is {MAX_HISTORY_AUC:.2f}."


def assess_statistics(found: dict[str, dict[str, Estimate]]) -> tuple[bool, str]:
    """Return whether every AUC after preprocessing is within MAX_STATISTICS_AUC, and a sentence.

    Args:
        found: by what was left out of training, the AUC of each of STATISTICS and of all together.
    """
    every = [(left_out, name, each) for left_out, row in found.items() for name, each in row.items()]
    left_out, name, worst = max(every, key=lambda entry: entry[2].value)
    seen = (
        f"after preprocessing the highest AUC of {len(every)} is {format_estimate(worst)}, n {worst.n}, of {name} on "
        f"{left_out}"
    )
    if worst.value > MAX_STATISTICS_AUC:
        too_high = sum(each.value > MAX_STATISTICS_AUC for _, _, each in every)
        return False, (
            f"FAILED: {seen}; {too_high} exceed the limit of {MAX_STATISTICS_AUC:.2f}. The network could learn them."
        )
    return True, f"Passed: {seen}; the limit is {MAX_STATISTICS_AUC:.2f}."


def print_tables(before: Measured, after: Measured, history: Estimate) -> None:
    """Print the AUC of each kind of features, and of the strongest features alone."""
    print(format_header("classifier on", f"before, n {len(before.labels)}", f"after, n {len(after.labels)}"))
    print(format_row("file history", format_estimate(separate(before, HISTORY_FEATURES)), format_estimate(history)))
    for kind, names in (("appearance", APPEARANCE_FEATURES), ("both", HISTORY_FEATURES + APPEARANCE_FEATURES)):
        print(format_row(kind, *(format_estimate(separate(measured, names)) for measured in (before, after))))
    for when, measured in (("before", before), ("after", after)):
        print(format_header(f"strongest features alone, {when}", "kind", "AUC", "median of reals", "median of fakes"))
        for name, estimate in strongest_features(measured):
            kind = "file history" if name in HISTORY_FEATURES else "appearance"
            medians = [f"{np.median(measured.values[name][measured.labels == label]):.4g}" for label in (0, 1)]
            print(format_row(name, kind, format_estimate(estimate), *medians))


def print_sources(examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings, samples: int) -> None:
    """Print how well file history separates each source of reals with at least AUDIT_PARTS groups from the others."""
    reals = [(example, face) for example, face in zip(examples, faces, strict=True) if example.label == 0]
    plain = replace(settings, self_blend=0.0, reconstruct=0.0)
    groups = Counter(source for source, _ in {(example.source, example.group) for example, _ in reals})
    print(format_header("reals of this source among all reals, by file history", "before", "after"))
    largest = groups.total() - AUDIT_PARTS  # the other sources need as many groups
    for source in sorted(source for source, count in groups.items() if AUDIT_PARTS <= count <= largest):
        relabelled = [replace(example, label=int(example.source == source)) for example, _ in reals]
        before = separate(measure_stored(relabelled, samples), HISTORY_FEATURES)
        after = separate(measure_fed(relabelled, [face for _, face in reals], plain, samples), HISTORY_FEATURES)
        print(format_row(source, *(f"{format_estimate(found)}, n {found.n}" for found in (before, after))))
