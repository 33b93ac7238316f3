"""Measurements of the evidence beside a verdict: quality gate, robustness test, explanations."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from tqdm import tqdm

from detector.evidence import DeletionCheck, RobustnessResult, run_deletion_check
from detector.evidence.explanations import explain
from detector.evidence.robustness import measure_robustness
from detector.media.degradations import TIERS, blur, recompress
from detector.media.images import read_image
from detector.metrics import auc, bootstrap, proportion, roc_auc
from detector.models.calibration import Calibration
from detector.models.engines import Engine, KerasEngine
from detector.pictures.detect import MODEL_FILES, load_picture_detector
from detector.pictures.faces import FaceFinder, FoundFace, crop_faces, crop_square
from detector.pictures.quality import (
    face_exclusion_reasons,
    grey_face,
    measure_blur,
    measure_brightness,
    measure_edge_ratio,
)
from detector.results import Reason, Verdict
from detector.verdicts import decide
from training.manifests import ROOT, Example
from training.scoring import read_split
from training.tables import format_estimate, format_header, format_row

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SAMPLING_SEED = 0
EXPLAINED_PICTURES = {"class_map": 100, "grad_cam": 20, "lime": 20}  # at most, by method
NEARNESS, FLIPS, LOST = "distance to the threshold alone", "flips between real and deepfake", "is lost in a degradation"
DOUBTS = (NEARNESS, "distance in the worst degradation", "spread of the logits", FLIPS, LOST)
DOUBT_FOLDS = 5
SCORED_AT_ONCE = 16
SAVED_QUALITY = 75  # of darkened pictures and drawings; without it the darkest still show every detail
# Edges of the ranges for which figures are printed; the thresholds of detector/pictures/quality.py are among them.
RANGES: dict[str, tuple[Callable[[np.ndarray], float], tuple[float, ...]]] = {
    "blur": (measure_blur, (0, 0.6, 0.7, 0.75, 0.8, 0.85, 1.01)),
    "brightness": (measure_brightness, (0, 16, 32, 48, 64, 96, 256)),
    "edge ratio": (measure_edge_ratio, (0, 4, 6, 7, 8, 10, np.inf)),
}
CROWD_SIZES = (1, 4, 10, 22, 23, 40, 64)  # faces in a picture
SEPARATION_COLUMNS = ("AUC", "called fake, of reals", "called real, of fakes", "inconclusive")

Measurement = Literal["quality_gate", "robustness", "class_map", "grad_cam", "lime"]


@dataclass(frozen=True)
class EvidenceOptions:
    """The command line of measure_evidence.py.

    Attributes:
        manifest: manifest of labelled pictures
        pictures: how many are measured
        split: of the manifest; `tune` is the part of `train` that calibrates, which heads for kinds of fakes learn from
        only: some of the measurements; those that are neither the quality gate nor the robustness test are methods of
            explanation
    """

    manifest: Path = ROOT / "data" / "synthetic_data" / "manifest.csv"
    pictures: int = 400
    split: str = "val"
    only: tuple[Measurement, ...] = ("quality_gate", "robustness", "class_map", "grad_cam", "lime")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture: `image` (H, W, 3) uint8 RGB and the largest face in it."""

    example: Example
    image: np.ndarray
    face: FoundFace


@dataclass(frozen=True, eq=False)
class DegradedSamples:
    """All samples after one degradation of the face.

    Attributes:
        kind: the name in RANGES of the measure that should respond; "fine" for none.
        name: the degradation.
        reasons: for each picture, why the quality gate excludes it.
        measures: for each name of RANGES (N,).
        logits: (N,).
    """

    kind: str
    name: str
    reasons: list[tuple[Reason, ...]]
    measures: dict[str, np.ndarray]
    logits: np.ndarray


def measure_evidence(options: EvidenceOptions) -> None:
    """Measure what is requested and print it."""
    cv2.setNumThreads(1)
    engine = load_picture_detector().engine
    examples = read_split(options.manifest, options.split)
    samples = find_samples(sample_evenly(examples, options.pictures))
    if "quality_gate" in options.only:
        print_quality_gate(samples, engine)
    for method, count in EXPLAINED_PICTURES.items():
        if method in options.only:
            print_explanations(method, samples[:count], engine)
    if "robustness" in options.only:  # last, since it stops where too few verdicts are wrong
        print_robustness(samples, engine)


def darken(image: np.ndarray, stops: float) -> np.ndarray:
    """Return the picture with `stops` less exposure, saved once as JPEG."""
    linear = (image / 255.0) ** 2.2 * 2.0**-stops
    return recompress(np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8), SAVED_QUALITY)


def stylize(image: np.ndarray) -> np.ndarray:
    """Return the picture as a painting with outlines."""
    return recompress(cv2.stylization(image, sigma_s=60, sigma_r=0.45), SAVED_QUALITY)


def sketch(image: np.ndarray) -> np.ndarray:
    """Return the picture as a drawing in coloured pencil."""
    return recompress(cv2.pencilSketch(image, sigma_s=60, sigma_r=0.07, shade_factor=0.04)[1], SAVED_QUALITY)


def posterise(image: np.ndarray) -> np.ndarray:
    """Return the picture in five levels a channel."""
    smooth = cv2.bilateralFilter(image, 9, 60, 9)
    return recompress((np.rint(smooth / 255 * 4) * 255 / 4).astype(np.uint8), SAVED_QUALITY)


def draw_cartoon(image: np.ndarray) -> np.ndarray:
    """Return the picture as flat areas between black lines."""
    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 9, 40, 7)
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    paper = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4)
    return recompress(np.where(paper[..., None] > 0, flat, 0).astype(np.uint8), SAVED_QUALITY)


# Degradations of the face at the network's input size, by the measure that should respond; blurs in pixels of it.
FACE_DEGRADATIONS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "fine": TIERS,
    "blur": {f"blurred, sigma {sigma}": partial(blur, sigma_px=sigma) for sigma in (2, 3, 4, 6)},
    "brightness": {f"{stops} stops darker": partial(darken, stops=stops) for stops in (3, 4, 5, 6, 7)},
    "edge ratio": {"painted": stylize, "pencil": sketch, "posterised": posterise, "cartoon": draw_cartoon},
}


def sample_evenly(examples: list[Example], count: int) -> list[Example]:
    """Draw up to `count` examples at random, taking each source and label in turn."""
    queues = defaultdict(list)
    for index in np.random.default_rng(SAMPLING_SEED).permutation(len(examples)):
        queues[examples[index].source, examples[index].label].append(examples[index])
    rounds = [[queue[i] for queue in queues.values() if i < len(queue)] for i in range(len(examples))]
    return [example for taken in rounds for example in taken][:count]


def find_samples(examples: list[Example]) -> list[Sample]:
    """Read the pictures and find their largest faces; those without a face are left out."""
    finder, samples = FaceFinder(), []
    for example in tqdm(examples, desc="finding faces", unit="picture"):
        image = read_image(example.path)
        if faces := finder.find_faces(image):
            samples.append(Sample(example, image, faces[0]))
    return samples


def cut_sample(sample: Sample, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input (S, S, 3) for a face, and the face's box (4,) in it."""
    height, width = sample.image.shape[:2]
    size_px = engine.spec.face.size_px
    square = crop_square(sample.face.box, engine.spec.face.crop_margin, width, height)
    box = (sample.face.box - np.array([*square[:2], 0, 0], np.float32)) * np.float32(size_px / square[2])
    return crop_faces(sample.image, [square], size_px)[0], box


def score_crops(engine: Engine, crops: list[np.ndarray]) -> np.ndarray:
    """Return the logits (N,) of crops (S, S, 3)."""
    batches = [crops[start : start + SCORED_AT_ONCE] for start in range(0, len(crops), SCORED_AT_ONCE)]
    return np.concatenate([engine.run(np.stack(batch))[0] for batch in batches])


def degrade_all(samples: list[Sample], engine: Engine) -> list[DegradedSamples]:
    """Apply every degradation to every face at the network's input size; measure and score the results."""
    cut = [cut_sample(sample, engine) for sample in samples]
    boxes = [box for _, box in cut]
    ways = [(kind, name, degrade) for kind, ways in FACE_DEGRADATIONS.items() for name, degrade in ways.items()]
    found = []
    for kind, name, degrade in tqdm(ways, desc="degrading", unit="way"):
        crops = [degrade(crop) if degrade else crop for crop, _ in cut]
        greys = [grey_face(crop, box) for crop, box in zip(crops, boxes, strict=True)]
        found.append(
            DegradedSamples(
                kind,
                name,
                [face_exclusion_reasons(crop, box) for crop, box in zip(crops, boxes, strict=True)],
                {quality: np.array([statistic(grey) for grey in greys]) for quality, (statistic, _) in RANGES.items()},
                score_crops(engine, crops),
            )
        )
    return found


def format_exclusions(reasons: list[tuple[Reason, ...]], groups: list[str]) -> tuple[str, str]:
    """Format the proportion of excluded pictures, and the count of each reason."""
    counts = Counter(str(reason) for found in reasons for reason in found)
    why = ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "-"
    excluded = np.array([bool(found) for found in reasons])
    return format_estimate(proportion(excluded, np.array(groups))), why


def format_separation(
    labels: np.ndarray, logits: np.ndarray, groups: np.ndarray, calibration: Calibration
) -> tuple[str, ...]:
    """Format the cells of SEPARATION_COLUMNS."""
    if len(set(labels)) < 2:
        return ("-",) * len(SEPARATION_COLUMNS)
    verdicts = np.array([decide(logit, (), calibration).verdict for logit in logits])
    rates = (
        np.mean(verdicts[labels == 0] == Verdict.DEEPFAKE),
        np.mean(verdicts[labels == 1] == Verdict.REAL),
        np.mean(verdicts == Verdict.INCONCLUSIVE),
    )
    return format_estimate(auc(labels, logits, groups)), *(f"{rate:.3f}" for rate in rates)


def print_quality_gate(samples: list[Sample], engine: Engine) -> None:
    """Print what the quality gate excludes, and how well the network separates the labels beyond its thresholds."""
    labels = np.array([sample.example.label for sample in samples])
    groups = np.array([sample.example.group for sample in samples])
    calibration = engine.spec.calibration
    print_excluded_reals(samples)
    found = degrade_all(samples, engine)
    print("\n" + format_header(f"n = {len(samples)}, at the network's size", "excluded", "why", *SEPARATION_COLUMNS))
    for degraded in found:
        exclusions = format_exclusions(degraded.reasons, groups.tolist())
        cells = format_separation(labels, degraded.logits, groups, calibration)
        print(format_row(degraded.name, *exclusions, *cells))
    for quality in RANGES:
        print_ranges(quality, found, samples, calibration)
    alarms = [
        float(np.mean(calibration.probability(degraded.logits[labels == 0]) >= calibration.threshold_fake))
        for degraded in found
        if degraded.kind == "fine"
    ]
    print_crowds(alarms)


def print_excluded_reals(samples: list[Sample]) -> None:
    """Print the proportion of real pictures that the quality gate excludes as stored, by source."""
    reals = [sample for sample in samples if sample.example.label == 0]
    print("\n" + format_header("real pictures as stored", "n", "excluded", "why"))
    for source in ["all", *sorted({sample.example.source for sample in reals})]:
        chosen = [sample for sample in reals if source in ("all", sample.example.source)]
        reasons = [face_exclusion_reasons(sample.image, sample.face.box) for sample in chosen]
        print(format_row(source, len(chosen), *format_exclusions(reasons, [s.example.group for s in chosen])))


def print_ranges(quality: str, found: list[DegradedSamples], samples: list[Sample], calibration: Calibration) -> None:
    """Print how well the network separates the labels in each range of one measure."""
    print("\n" + format_header(quality, "of the fine, n", "of the degraded, n", *SEPARATION_COLUMNS))
    mixed = [degraded for degraded in found if degraded.kind in ("fine", quality)]
    values = np.concatenate([degraded.measures[quality] for degraded in mixed])
    logits = np.concatenate([degraded.logits for degraded in mixed])
    is_fine = np.repeat([degraded.kind == "fine" for degraded in mixed], len(samples))
    labels = np.tile([sample.example.label for sample in samples], len(mixed))
    groups = np.tile([sample.example.group for sample in samples], len(mixed))
    for low, high in pairwise(RANGES[quality][1]):
        inside = (values >= low) & (values < high)
        counts = np.sum(inside & is_fine), np.sum(inside & ~is_fine)
        cells = format_separation(labels[inside], logits[inside], groups[inside], calibration)
        print(format_row(f"{low:g} to {high:g}", *counts, *cells))


def print_crowds(alarms: list[float]) -> None:
    """Print the chance of at least one false alarm in a picture of many real faces.

    Args:
        alarms: rate of false alarms of a single face after each degradation of TIERS, as stored first.
    """
    print("\n" + format_header("real faces in a picture", "at least one called fake", "after the worst degradation"))
    for faces in CROWD_SIZES:  # as if independent; faces of one picture are not, which makes no alarm likelier
        print(format_row(faces, f"{1 - (1 - alarms[0]) ** faces:.2f}", f"{1 - (1 - max(alarms)) ** faces:.2f}"))


def measure_doubts(samples: list[Sample], engine: Engine) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Run the robustness test on every picture that gets a verdict as stored.

    Returns:
        For each name of DOUBTS (N,), larger means more doubtful; (N,) whether the verdict is wrong; (N,) groups.

    Raises:
        SystemExit: too few verdicts are wrong.
    """
    calibration, margin = engine.spec.calibration, engine.spec.face.crop_margin
    rows = []
    for sample in tqdm(samples, desc="testing robustness", unit="picture"):
        height, width = sample.image.shape[:2]
        result = measure_robustness(sample.image, [crop_square(sample.face.box, margin, width, height)], engine)
        verdict = result.scores[0].verdict
        if verdict is not Verdict.INCONCLUSIVE:
            is_wrong = (verdict is Verdict.DEEPFAKE) != (sample.example.label == 1)
            rows.append((*doubts_about(result, calibration), is_wrong, sample.example.group))
    if sum(row[-2] for row in rows) < DOUBT_FOLDS or len(rows) < 2 * DOUBT_FOLDS:
        raise SystemExit(f"Too few of {len(rows)} verdicts are wrong to analyse them; take more --pictures.")
    *doubts, errors, groups = (np.array(column) for column in zip(*rows, strict=True))
    return dict(zip(DOUBTS, doubts, strict=True)), errors, groups


def doubts_about(result: RobustnessResult, calibration: Calibration) -> tuple[float, float, float, bool, bool]:
    """Return the values of DOUBTS for a result whose first verdict is real or deepfake."""
    verdict = result.scores[0].verdict
    is_fake = verdict is Verdict.DEEPFAKE
    threshold = calibration.threshold_fake if is_fake else calibration.threshold_real
    # In calibrated log-odds, so that both thresholds count alike.
    logits = np.array([score.logit for score in result.scores])
    beyond = (1 if is_fake else -1) * (calibration.slope * logits + calibration.intercept - log_odds(threshold))
    is_lost = any(score.verdict is not verdict for score in result.scores)
    return -float(beyond[0]), -float(beyond.min()), result.spread, not result.is_robust, is_lost


def log_odds(probability: float) -> float:
    """Return log(p / (1 - p))."""
    return float(np.log(probability / (1 - probability)))


def print_robustness(samples: list[Sample], engine: Engine) -> None:
    """Print whether the robustness test finds wrong verdicts better than the distance to the threshold alone."""
    doubts, is_wrong, groups = measure_doubts(samples, engine)
    print(f"\n{len(is_wrong)} verdicts, {is_wrong.sum()} of them wrong")
    print("\n" + format_header("what indicates a wrong verdict", "AUC", "more than the distance"))
    for name, values in {**doubts, "all of them together": combine_doubts(doubts, is_wrong, groups)}.items():
        more = bootstrap(_auc_difference, groups, is_wrong, values, doubts[NEARNESS])
        print(format_row(name, format_estimate(auc(is_wrong, values, groups)), format_estimate(more)))
    columns = ("n", "wrong", "of as many nearest to the threshold", "difference")
    print("\n" + format_header("a verdict that", *columns))
    may_vote = False
    for name in (FLIPS, LOST):
        doubted = doubts[name]
        if not doubted.any():
            print(format_row(name, 0, "-", "-", "-"))
            continue
        gain = bootstrap(_gain, groups, is_wrong, doubted, doubts[NEARNESS])
        may_vote |= gain.low > 0
        nearest = is_wrong[_as_many(doubted, doubts[NEARNESS])]
        rates = f"{is_wrong[doubted].mean():.3f}", f"{nearest.mean():.3f}"
        print(format_row(name, doubted.sum(), *rates, format_estimate(gain)))
    finds, votes = ("finds", "may vote") if may_vote else ("does not find", "is shown but does not vote")
    print(f"\nThe robustness test {finds} wrong verdicts better than the distance to the threshold alone: it {votes}.")


def combine_doubts(doubts: dict[str, np.ndarray], is_wrong: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return one doubt (N,): a logistic regression on all, fitted on other groups than it scores."""
    features = np.column_stack([(values - values.mean()) / (values.std() or 1) for values in doubts.values()])
    folds = StratifiedGroupKFold(DOUBT_FOLDS)
    together = cross_val_predict(
        LogisticRegression(), features, is_wrong, groups=groups, cv=folds, method="decision_function"
    )
    return np.asarray(together)


def _auc_difference(is_wrong: np.ndarray, doubt: np.ndarray, nearness: np.ndarray) -> float:
    return roc_auc(is_wrong, doubt) - roc_auc(is_wrong, nearness)


def _gain(is_wrong: np.ndarray, doubted: np.ndarray, nearness: np.ndarray) -> float:
    """Return how much larger the proportion of wrong verdicts is than among as many nearest to their threshold."""
    if not doubted.any():
        raise ValueError("nothing is doubted")
    return float(is_wrong[doubted].mean() - is_wrong[_as_many(doubted, nearness)].mean())


def _as_many(doubted: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """Return (N,) booleans that choose as many verdicts as are doubted: those nearest to their threshold."""
    return np.asarray(nearness >= np.sort(nearness)[-int(doubted.sum())])


def print_explanations(method: str, samples: list[Sample], engine: Engine) -> None:
    """Print how many heat maps of a method pass the deletion check, and the spread of their heat."""
    reference = KerasEngine(MODEL_FILES["keras"]) if method == "grad_cam" else engine
    checks: list[DeletionCheck] = []
    heats = []
    for sample in tqdm(samples, desc=method, unit="picture"):
        crop, _ = cut_sample(sample, engine)
        heatmap = explain(crop, reference, method=method).heatmap
        checks.append(run_deletion_check(crop, heatmap, engine))
        heats.append(np.quantile(heatmap, [0.05, 0.95]))
    verdicts = [decide(check.logits[0], (), engine.spec.calibration).verdict for check in checks]
    groups = np.array([sample.example.group for sample in samples])
    matters = np.array([check.matters for check in checks])
    gaps = np.array([check.random_area - check.area for check in checks])
    columns = ("n", "maps that matter to the score", "gap of the curves, logits", "heat, 5% to 95%")
    print("\n" + format_header(method, *columns))
    for chosen_verdict in ["all", *Verdict]:
        chosen = np.array([chosen_verdict in ("all", verdict) for verdict in verdicts])
        if chosen.any():
            low, high = np.mean(np.array(heats)[chosen], axis=0)
            passed = format_estimate(proportion(matters[chosen], groups[chosen]))
            print(
                format_row(
                    chosen_verdict, chosen.sum(), passed, f"{gaps[chosen].mean():.2f}", f"{low:.2f} to {high:.2f}"
                )
            )
