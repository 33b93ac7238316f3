"""Measure what the evidence beside a verdict is worth: the scope, the delivery test, the explanations.

    python scripts/measure_evidence.py --manifest FACES.csv
    python scripts/measure_evidence.py --manifest FACES.csv --only delivery --pictures 800

On the tuning pictures, the part of `train` that train.py does not learn from; every source and label as often as
another as far as they go. Damaged pictures and drawings are made of them. Prints tables and an answer to each question:
what share of fine pictures do the thresholds of detector/scope.py refuse, and what does the network still tell beyond
them? Does the delivery test find wrong verdicts better than the distance to the threshold alone? How many maps pass
their own check? Intervals are of 95 %, over groups.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from tqdm import tqdm

from detector.evidence.explanation_checks import run_deletion_check
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
from training.scoring import CALIBRATION_SPLIT, read_split
from training.shortcuts import shown

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SEED = 0
MAPS = {"class_map": 100, "grad_cam": 20, "lime": 20}  # pictures explained by each method, at most
NEARNESS, FLIPS, LOST = "distance to the threshold alone", "flips between real and deepfake", "is lost in a delivery"
DOUBTS = (NEARNESS, "distance in the worst delivery", "spread of the logits", FLIPS, LOST)
FOLDS = 5
PARTS = ("scope", "delivery", *MAPS)
SCORED_AT_ONCE = 16
SAVED = 75  # JPEG quality in which dark pictures and drawings arrive; without it the darkest still show every detail
# Edges of the ranges for which the figures are printed; the thresholds of detector/scope.py are among them.
RANGES: dict[str, tuple[Callable[[np.ndarray], float], tuple[float, ...]]] = {
    "blur": (measure_blur, (0, 0.6, 0.7, 0.75, 0.8, 0.85, 1.01)),
    "brightness": (measure_brightness, (0, 16, 32, 48, 64, 96, 256)),
    "edge ratio": (measure_edge_ratio, (0, 4, 6, 7, 8, 10, np.inf)),
}
CROWDS = (1, 4, 10, 22, 23, 40, 64)  # faces in a picture


@dataclass(frozen=True, eq=False)
class Sample:
    """One tuning picture: `image` (H, W, 3) uint8 RGB and the largest face in it."""

    example: Example
    image: np.ndarray
    face: FoundFace


@dataclass(frozen=True, eq=False)
class DegradedSample:
    """All pictures after one damage.

    Attributes:
        kind: which measure is to tell it, a name of RANGES; "fine" for none.
        name: what was done.
        reasons: for each picture, why it is out of scope.
        measures: for each name of RANGES (N,).
        logits: (N,).
    """

    kind: str
    name: str
    reasons: list[tuple[Reason, ...]]
    measures: dict[str, np.ndarray]
    logits: np.ndarray


def darken(image: np.ndarray, stops: float) -> np.ndarray:
    """Return the picture with `stops` less exposure, saved once."""
    linear = (image / 255.0) ** 2.2 * 2.0**-stops
    return recompress(np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8), SAVED)


def stylize(image: np.ndarray) -> np.ndarray:
    """Return the picture as a painting with outlines."""
    return recompress(cv2.stylization(image, sigma_s=60, sigma_r=0.45), SAVED)


def sketch(image: np.ndarray) -> np.ndarray:
    """Return the picture as a drawing in coloured pencil."""
    return recompress(cv2.pencilSketch(image, sigma_s=60, sigma_r=0.07, shade_factor=0.04)[1], SAVED)


def posterise(image: np.ndarray) -> np.ndarray:
    """Return the picture in five levels a channel."""
    smooth = cv2.bilateralFilter(image, 9, 60, 9)
    return recompress((np.rint(smooth / 255 * 4) * 255 / 4).astype(np.uint8), SAVED)


def draw_cartoon(image: np.ndarray) -> np.ndarray:
    """Return the picture as flat areas between black lines."""
    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 9, 40, 7)
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    paper = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4)
    return recompress(np.where(paper[..., None] > 0, flat, 0).astype(np.uint8), SAVED)


# What is done to the face at the network's own size, by what it is to show; blurs are in pixels of that size.
FACE_DEGRADATIONS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "fine": TIERS,
    "blur": {f"blurred, sigma {sigma}": partial(blur, sigma_px=sigma) for sigma in (2, 3, 4, 6)},
    "brightness": {f"{stops} stops darker": partial(darken, stops=stops) for stops in (3, 4, 5, 6, 7)},
    "edge ratio": {"painted": stylize, "pencil": sketch, "posterised": posterise, "cartoon": draw_cartoon},
}


def take_in_turns(examples: list[Example], count: int) -> list[Example]:
    """Return up to `count` examples, at random and from each source and label in turn."""
    queues = defaultdict(list)
    for index in np.random.default_rng(SEED).permutation(len(examples)):
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
    """Return the square the network is shown at its size (S, S, 3), and the face's box (4,) in it."""
    height, width = sample.image.shape[:2]
    size_px = engine.spec.face.size_px
    square = crop_square(sample.face.box, engine.spec.face.crop_margin, width, height)
    box = (sample.face.box - np.array([*square[:2], 0, 0], np.float32)) * np.float32(size_px / square[2])
    return crop_faces(sample.image, [square], size_px)[0], box


def score(engine: Engine, crops: list[np.ndarray]) -> np.ndarray:
    """Return the logits (N,) of crops (S, S, 3)."""
    batches = [crops[start : start + SCORED_AT_ONCE] for start in range(0, len(crops), SCORED_AT_ONCE)]
    return np.concatenate([engine.run(np.stack(batch))[0] for batch in batches])


def degrade_all(samples: list[Sample], engine: Engine) -> list[DegradedSample]:
    """Damage every picture in every way, at the network's size, and measure and score it."""
    cut = [cut_sample(sample, engine) for sample in samples]
    boxes = [box for _, box in cut]
    ways = [(kind, name, damage) for kind, damages in FACE_DEGRADATIONS.items() for name, damage in damages.items()]
    found = []
    for kind, name, damage in tqdm(ways, desc="damaging", unit="way"):
        crops = [damage(crop) if damage else crop for crop, _ in cut]
        greys = [grey_face(crop, box) for crop, box in zip(crops, boxes, strict=True)]
        found.append(
            DegradedSample(
                kind,
                name,
                [face_exclusion_reasons(crop, box) for crop, box in zip(crops, boxes, strict=True)],
                {asked: np.array([measure(grey) for grey in greys]) for asked, (measure, _) in RANGES.items()},
                score(engine, crops),
            )
        )
    return found


def print_refused(samples: list[Sample]) -> None:
    """Print what share of the real pictures the thresholds refuse, as they are stored."""
    reals = [sample for sample in samples if sample.example.label == 0]
    print("\n| real pictures as stored | n | refused | why |\n| --- | --- | --- | --- |")
    for source in ["all", *sorted({sample.example.source for sample in reals})]:
        chosen = [sample for sample in reals if source in ("all", sample.example.source)]
        reasons = [face_exclusion_reasons(sample.image, sample.face.box) for sample in chosen]
        print(f"| {source} | {len(chosen)} | {refused(reasons, [sample.example.group for sample in chosen])} |")


def refused(reasons: list[tuple[Reason, ...]], groups: list[str]) -> str:
    """Return two cells: the share that is refused, and how often for which reason."""
    counts = Counter(str(reason) for found in reasons for reason in found)
    why = ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "-"
    return f"{shown(proportion(np.array([bool(found) for found in reasons]), np.array(groups)))} | {why}"


def distinguished(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray, calibration: Calibration) -> str:
    """Return four cells: AUC; of the reals, called fake; of the fakes, called real; of all, inconclusive."""
    if len(set(labels)) < 2:
        return "- | - | - | -"
    verdicts = np.array([decide(logit, (), calibration).verdict for logit in logits])
    rates = (
        np.mean(verdicts[labels == 0] == Verdict.DEEPFAKE),
        np.mean(verdicts[labels == 1] == Verdict.REAL),
        np.mean(verdicts == Verdict.INCONCLUSIVE),
    )
    return f"{shown(auc(labels, logits, groups))} | " + " | ".join(f"{rate:.3f}" for rate in rates)


def print_scope(samples: list[Sample], engine: Engine) -> None:
    """Print what the thresholds of detector/scope.py refuse, and what the network still tells beyond them."""
    labels = np.array([sample.example.label for sample in samples])
    groups = np.array([sample.example.group for sample in samples])
    calibration = engine.spec.calibration
    figures = "AUC | called fake, of reals | called real, of fakes | inconclusive"
    print_refused(samples)

    found = degrade_all(samples, engine)
    print(f"\n| n = {len(samples)}, at the network's size | refused | why | {figures} |\n" + "| --- " * 7 + "|")
    for damaged in found:
        why = refused(damaged.reasons, groups.tolist())
        print(f"| {damaged.name} | {why} | {distinguished(labels, damaged.logits, groups, calibration)} |")

    for asked, (_, edges) in RANGES.items():
        print(f"\n| {asked} | of the fine, n | of the damaged, n | {figures} |\n" + "| --- " * 7 + "|")
        mixed = [damaged for damaged in found if damaged.kind in ("fine", asked)]
        values = np.concatenate([damaged.measures[asked] for damaged in mixed])
        logits = np.concatenate([damaged.logits for damaged in mixed])
        is_fine = np.repeat([damaged.kind == "fine" for damaged in mixed], len(samples))
        all_labels, all_groups = np.tile(labels, len(mixed)), np.tile(groups, len(mixed))
        for low, high in pairwise(edges):
            inside = (values >= low) & (values < high)
            counts = f"{np.sum(inside & is_fine)} | {np.sum(inside & ~is_fine)}"
            cells = distinguished(all_labels[inside], logits[inside], all_groups[inside], calibration)
            print(f"| {low:g} to {high:g} | {counts} | {cells} |")

    print("\n| real faces in a picture | at least one called fake | the worst delivery |\n| --- | --- | --- |")
    alarms = [
        float(np.mean(calibration.probability(damaged.logits[labels == 0]) >= calibration.threshold_fake))
        for damaged in found
        if damaged.kind == "fine"
    ]
    for faces in CROWDS:  # as if independent; of one picture they are not, which makes no alarm at all likelier
        print(f"| {faces} | {1 - (1 - alarms[0]) ** faces:.2f} | {1 - (1 - max(alarms)) ** faces:.2f} |")


def degrade_and_score_all(
    samples: list[Sample], engine: Engine
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Run the delivery test on every picture that gets a verdict as it is stored.

    Returns:
        For each name of DOUBTS (N,), larger means more doubtful; (N,) whether the verdict is wrong; (N,) groups.
    """
    calibration = engine.spec.calibration
    thresholds = {Verdict.REAL: calibration.threshold_real, Verdict.DEEPFAKE: calibration.threshold_fake}
    rows = []
    for sample in tqdm(samples, desc="delivering", unit="picture"):
        square = crop_square(sample.face.box, engine.spec.face.crop_margin, *sample.image.shape[1::-1])
        found = measure_robustness(sample.image, [square], engine)
        verdict = found.scores[0].verdict
        if verdict is Verdict.INCONCLUSIVE:
            continue
        side = 1 if verdict is Verdict.DEEPFAKE else -1
        # In calibrated log-odds, so that both thresholds count alike.
        logits = np.array([delivery.logit for delivery in found.scores])
        beyond = side * (calibration.slope * logits + calibration.intercept - log_odds(thresholds[verdict]))
        is_wrong = (verdict is Verdict.DEEPFAKE) != (sample.example.label == 1)
        is_lost = any(delivery.verdict is not verdict for delivery in found.scores)
        measured = -beyond[0], -beyond.min(), found.spread, not found.is_robust, is_lost
        rows.append((*measured, is_wrong, sample.example.group))
    if sum(row[-2] for row in rows) < FOLDS or len(rows) < 2 * FOLDS:
        raise SystemExit(f"Of {len(rows)} verdicts too few are wrong to ask what tells them; take more --pictures.")
    *doubts, is_wrong, groups = (np.array(column) for column in zip(*rows, strict=True))
    return dict(zip(DOUBTS, doubts, strict=True)), is_wrong, groups


def log_odds(probability: float) -> float:
    """Return log(p / (1 - p))."""
    return float(np.log(probability / (1 - probability)))


def print_robustness(samples: list[Sample], engine: Engine) -> None:
    """Print whether the delivery test finds wrong verdicts better than the distance to the threshold alone."""
    doubts, is_wrong, groups = degrade_and_score_all(samples, engine)
    # The test beside the distance: a line through all of them, fitted on other groups than it is asked about.
    features = np.column_stack([(values - values.mean()) / (values.std() or 1) for values in doubts.values()])
    together = cross_val_predict(
        LogisticRegression(),
        features,
        is_wrong,
        groups=groups,
        cv=StratifiedGroupKFold(FOLDS),
        method="decision_function",
    )
    print(f"\n{len(is_wrong)} verdicts, {is_wrong.sum()} of them wrong")
    print("\n| what tells a wrong verdict | AUC | more than the distance |\n| --- | --- | --- |")
    for name, values in {**doubts, "all of them together": together}.items():
        more = bootstrap(_auc_difference, groups, is_wrong, values, doubts[NEARNESS])
        print(f"| {name} | {shown(auc(is_wrong, values, groups))} | {shown(more)} |")
    print("\n| a verdict that | n | wrong | of as many nearest to the threshold | difference |\n" + "| --- " * 5 + "|")
    may_vote = False
    for name in (FLIPS, LOST):
        doubted = doubts[name]
        if not doubted.any():
            print(f"| {name} | 0 | - | - | - |")
            continue
        gain = bootstrap(_gain, groups, is_wrong, doubted, doubts[NEARNESS])
        may_vote |= gain.low > 0
        shares = f"{is_wrong[doubted].mean():.3f} | {is_wrong[_as_many(doubted, doubts[NEARNESS])].mean():.3f}"
        print(f"| {name} | {doubted.sum()} | {shares} | {shown(gain)} |")
    finds, votes = ("finds", "may vote") if may_vote else ("does not find", "is shown but does not vote")
    print(f"\nThe delivery test {finds} wrong verdicts better than the distance to the threshold alone: it {votes}.")


def _auc_difference(is_wrong: np.ndarray, doubt: np.ndarray, nearness: np.ndarray) -> float:
    return roc_auc(is_wrong, doubt) - roc_auc(is_wrong, nearness)


def _gain(is_wrong: np.ndarray, doubted: np.ndarray, nearness: np.ndarray) -> float:
    """Return by how much the share of wrong ones is larger than among as many nearest to their threshold."""
    if not doubted.any():
        raise ValueError("nothing is doubted")
    return float(is_wrong[doubted].mean() - is_wrong[_as_many(doubted, nearness)].mean())


def _as_many(doubted: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """Return (N,) booleans: as many verdicts as are doubted, those nearest to their threshold."""
    return nearness >= np.sort(nearness)[-int(doubted.sum())]


def print_maps(method: str, samples: list[Sample], engine: Engine) -> None:
    """Print how many maps of a method pass the deletion check, and how far their places lie apart."""
    reference = KerasEngine(MODEL_FILES["keras"]) if method == "grad_cam" else engine
    calibration = engine.spec.calibration
    samples = samples[: MAPS[method]]
    checks, heats = [], []
    for sample in tqdm(samples, desc=method, unit="picture"):
        crop, _ = cut_sample(sample, engine)
        heatmap = explain(crop, reference, method=method).heatmap
        checks.append(run_deletion_check(crop, heatmap, engine))
        heats.append(np.quantile(heatmap, [0.05, 0.95]))
    verdicts = [decide(check.logits[0], (), calibration).verdict for check in checks]
    groups = np.array([sample.example.group for sample in samples])
    matters = np.array([check.matters for check in checks])
    gaps = np.array([check.random_area - check.area for check in checks])
    print(f"\n| {method} | n | maps that matter to the score | gap of the curves, logits | heat, 5 to 95 % |")
    print("| --- " * 5 + "|")
    for verdict in ["all", *Verdict]:
        chosen = np.array([verdict in ("all", judged) for judged in verdicts])
        if chosen.any():
            low, high = np.mean(np.array(heats)[chosen], axis=0)
            held = shown(proportion(matters[chosen], groups[chosen]))
            print(f"| {verdict} | {chosen.sum()} | {held} | {gaps[chosen].mean():.2f} | {low:.2f} to {high:.2f} |")


def main(argv: list[str] | None = None) -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--pictures", type=int, default=400, help="how many are measured (default 400)")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="some of the questions")
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    engine = load_picture_detector().engine
    samples = find_samples(take_in_turns(read_split(options.manifest, CALIBRATION_SPLIT), options.pictures))
    if "scope" in options.only:
        print_scope(samples, engine)
    for method in MAPS:
        if method in options.only:
            print_maps(method, samples, engine)
    if "delivery" in options.only:  # last, since it may find too few wrong verdicts to ask about
        print_robustness(samples, engine)


if __name__ == "__main__":
    main()
