"""Whether a heat map matters to the score: the deletion check."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detector.evidence.explanations import remove_detail
from detector.models.engines import Engine, score_in_batches
from detector.models.heatmaps import resize_heatmap
from detector.text import translatable

DELETION_GRID = 12  # places on each side
DELETION_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)  # proportions of the crop; beyond half no face is left
RANDOM_DELETIONS = 19  # a map unrelated to the score comes out lowest of 20 in 1 of 20 cases
DELETION_SEED = 0
DELETION_CHECK_FACES = 1 + (1 + RANDOM_DELETIONS) * len(DELETION_SHARES)  # scored by one check


@dataclass(frozen=True)
class DeletionCheck:
    """The scores after the marked places are removed, the strongest first.

    Attributes:
        shares: proportions of the crop that are removed, beginning with 0.
        logits: with the strongest places removed.
        random_logits: mean over RANDOM_DELETIONS with as much removed elsewhere.
        area, random_area: under the two curves, over `shares` and divided by their range, in logits.
        matters: whether `area` is smaller than that of every random deletion.
    """

    shares: tuple[float, ...]
    logits: tuple[float, ...]
    random_logits: tuple[float, ...]
    area: float
    random_area: float
    matters: bool

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.matters:
            return translatable(
                "Blurring the marked areas lowers the score more than blurring other areas, in all {tries} tries."
            ).format(tries=RANDOM_DELETIONS)
        return translatable(
            "Blurring the marked areas does not lower the score more than blurring other areas. "
            "The map does not show what this score is based on."
        )


def run_deletion_check(crop: np.ndarray, heatmap: np.ndarray, engine: Engine) -> DeletionCheck:
    """Remove the marked places, the strongest first, and compare the score with random deletions.

    A random deletion uses the same map, shifted and mirrored at random: the removed pieces have the same size and shape
    but lie elsewhere. The map matters when the area under its own curve is below the area of every random deletion.

    Args:
        crop: (S, S, 3) uint8 RGB.
        heatmap: (h, w) float32 of any method.

    Source:
        Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", arXiv 1806.07421, for the
        deletion curve; the rule is a permutation test at 1 in 20.
    """
    masks = _deletion_masks(heatmap)
    filled = remove_detail(crop).astype(np.float32)

    def delete(rows: slice) -> np.ndarray:
        # Linear interpolation: a hard edge could resemble the seam of a forgery.
        weights = np.stack([cv2.resize(mask, crop.shape[:2]) for mask in masks[rows]])[..., None]
        return np.asarray(np.rint(crop + (filled - crop) * weights), np.uint8)

    whole = float(engine.run(crop[None])[0][0])
    deleted = score_in_batches(engine, delete, len(masks)).reshape(-1, len(DELETION_SHARES))
    curves = np.concatenate([np.full((len(deleted), 1), whole), deleted], axis=1)
    shares = (0.0, *DELETION_SHARES)
    areas = np.trapezoid(curves, shares, axis=1) / shares[-1]
    return DeletionCheck(
        shares=shares,
        logits=tuple(curves[0].tolist()),
        random_logits=tuple(curves[1:].mean(axis=0).tolist()),
        area=float(areas[0]),
        random_area=float(areas[1:].mean()),
        matters=bool(areas[0] < areas[1:].min()),
    )


def _deletion_masks(heatmap: np.ndarray) -> np.ndarray:
    """Return the masks (N, DELETION_GRID, DELETION_GRID) float32, 1 = removed.

    The map's own deletions come first, one for each of DELETION_SHARES, then those of each random deletion.
    """
    rng = np.random.default_rng(DELETION_SEED)
    heat = resize_heatmap(heatmap, DELETION_GRID)
    orders = [_strongest_first(heat)] + [_strongest_first(_move(heat, rng)) for _ in range(RANDOM_DELETIONS)]
    masks = np.zeros((len(orders), len(DELETION_SHARES), heat.size), np.float32)
    for rows, order in zip(masks, orders, strict=True):
        for row, share in zip(rows, DELETION_SHARES, strict=True):
            row[order[: round(share * heat.size)]] = 1
    return masks.reshape(-1, DELETION_GRID, DELETION_GRID)


def _strongest_first(heat: np.ndarray) -> np.ndarray:
    return np.argsort(-heat.ravel(), kind="stable")


def _move(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the map mirrored at random and shifted around the edges."""
    axes = tuple(axis for axis in (0, 1) if rng.random() < 0.5)
    shift = rng.integers(1, DELETION_GRID, 2)
    return np.roll(np.flip(heat, axes), shift.tolist(), axis=(0, 1))
