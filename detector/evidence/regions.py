"""The strongest regions of a heat map: where they are and which parts of the face they cover."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from detector.models.heatmaps import NEUTRAL, resize_heatmap
from detector.text import translatable

FAINT_HEAT = 0.55  # an overlay weaker than this is hardly visible, so no region is named for it
REGION_EVIDENCE = 0.5  # proportion of the evidence that the strongest pixels together hold
SPREAD_AREA = 0.3  # when those pixels cover a larger proportion of the crop, the evidence counts as spread out
MAX_REGIONS = 3
MAX_PART_NAMES = 3
MIN_REGION_EVIDENCE = 0.05  # proportion of the evidence; smaller islands are left unmarked


@dataclass(frozen=True)
class Region:
    """A marked place: `box` (x, y, w, h) in pixels of the crop, `share` its proportion of the evidence of a fake."""

    box: tuple[int, int, int, int]
    share: float


def measure_evidence(heatmap: np.ndarray, size_px: int) -> np.ndarray:
    """Return the evidence of a fake by pixel.

    Args:
        heatmap: (h, w) float32 in [0, 1].
        size_px: side of the crop that the map covers.

    Returns:
        (size_px, size_px) float32 that sums to 1; all 0 where no heat is visible.
    """
    heat = np.clip(resize_heatmap(heatmap, size_px) - NEUTRAL, 0, None)
    if heat.max() < FAINT_HEAT - NEUTRAL:
        return np.zeros_like(heat)
    return np.asarray(heat / heat.sum())


def find_regions(evidence: np.ndarray) -> tuple[Region, ...]:
    """Return the strongest regions of `measure_evidence`, the strongest first; empty when there is no evidence."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(_strongest_pixels(evidence).astype(np.uint8))
    regions = []
    for label in range(1, count):
        x, y, w, h, _ = boxes[label].tolist()
        regions.append(Region((x, y, w, h), float(evidence[labels == label].sum())))
    regions = [region for region in regions if region.share >= MIN_REGION_EVIDENCE]
    return tuple(sorted(regions, key=lambda region: -region.share)[:MAX_REGIONS])


def describe_evidence(heatmap: np.ndarray, evidence: np.ndarray, landmarks: np.ndarray | None) -> str:
    """Return a sentence that says where the evidence lies.

    Args:
        heatmap: (h, w) float32 in [0, 1].
        evidence: `measure_evidence` of that map.
        landmarks: (5, 2) in pixels of the crop; with landmarks the sentence names parts of the face, without
            landmarks parts of the picture.
    """
    if not evidence.any():
        return translatable("No part of the face shows evidence of a fake.")
    names = _strongest_names(evidence, landmarks)
    kind = translatable("weak evidence") if float(heatmap.mean()) < NEUTRAL else translatable("evidence")
    if names:
        _merge_pairs(names)
        return translatable("The {kind} of a fake lies mostly in {parts}.").format(kind=kind, parts=_join_words(names))
    if landmarks is None:
        return translatable("The {kind} of a fake is spread over the whole picture.").format(kind=kind)
    return translatable("The {kind} of a fake is spread over the whole face.").format(kind=kind)


def _strongest_pixels(evidence: np.ndarray) -> np.ndarray:
    """Return (S, S) booleans: the fewest pixels that together hold REGION_EVIDENCE."""
    ordered = np.sort(evidence, axis=None)[::-1]
    last = int(np.searchsorted(np.cumsum(ordered), REGION_EVIDENCE * ordered.sum()))
    return np.asarray(evidence >= max(ordered[last], np.finfo(np.float32).tiny))


def _strongest_names(evidence: np.ndarray, landmarks: np.ndarray | None) -> list[str]:
    """Return the parts in which the strongest pixels lie, the strongest first; none when the evidence is spread out.

    Faint evidence around the face covers more pixels than strong evidence in one part, so it is not counted.
    """
    strongest = _strongest_pixels(evidence)
    if strongest.mean() > SPREAD_AREA:
        return []
    evidence = np.where(strongest, evidence, 0) / evidence[strongest].sum()
    parts = _parts_of_picture(evidence.shape[0]) if landmarks is None else _parts_of_face(landmarks)
    pixels = np.arange(evidence.shape[0], dtype=np.float32)
    x, y = np.array([centre for _, centre in parts], np.float32).T[..., None]
    nearest = np.argmin(np.square(pixels - y)[:, :, None] + np.square(pixels - x)[:, None], axis=0)  # (S, S)
    evidence_by_name: Counter[str] = Counter()
    for (name, _), amount in zip(parts, np.bincount(nearest.ravel(), evidence.ravel(), len(parts)), strict=True):
        evidence_by_name[name] += amount
    names, held = zip(*evidence_by_name.most_common(), strict=True)
    count = int(np.searchsorted(np.cumsum(held), REGION_EVIDENCE)) + 1
    return list(names[:count]) if count <= MAX_PART_NAMES else []


def _parts_of_picture(size_px: int) -> list[tuple[str, np.ndarray]]:
    """Return nine parts with their centres, x and y."""
    names = (
        *(translatable("the upper left"), translatable("the top"), translatable("the upper right")),
        *(translatable("the left"), translatable("the middle"), translatable("the right")),
        *(translatable("the lower left"), translatable("the bottom"), translatable("the lower right")),
    )
    return [(name, (np.array([i % 3, i // 3]) + 0.5) * size_px / 3) for i, name in enumerate(names)]


def _parts_of_face(landmarks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the parts of a face with their centres, x and y; left and right are the picture's."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    down = mouth - eyes
    # A face in profile has its eyes close together, but is about as wide.
    width = max(np.linalg.norm(right_eye - left_eye), 0.8 * np.linalg.norm(down))
    across = np.array([down[1], -down[0]]) / max(np.linalg.norm(down), 1e-3) * width
    around = [eyes - 1.6 * across, eyes + 1.6 * across, mouth - 1.6 * across, mouth + 1.6 * across]
    around += [eyes - 1.6 * down, mouth + 0.9 * down]
    return [
        (translatable("the eye on the left"), left_eye),
        (translatable("the eye on the right"), right_eye),
        (translatable("the nose"), nose),
        (translatable("the mouth"), mouth),
        (translatable("the forehead"), eyes - 0.6 * down),
        (translatable("the chin"), mouth + 0.4 * down),
        (translatable("the cheek on the left"), (eyes + mouth) / 2 - 0.8 * across),
        (translatable("the cheek on the right"), (eyes + mouth) / 2 + 0.8 * across),
        *((translatable("the area around the face"), point) for point in around),
    ]


def _merge_pairs(names: list[str]) -> None:
    """Put one name in place of those of both eyes, or of both cheeks."""
    pairs = (
        (translatable("the eye on the left"), translatable("the eye on the right"), translatable("both eyes")),
        (translatable("the cheek on the left"), translatable("the cheek on the right"), translatable("both cheeks")),
    )
    for left, right, both in pairs:
        if left in names and right in names:
            names[names.index(left)] = both
            names.remove(right)


def _join_words(names: list[str]) -> str:
    *others, last = names
    return translatable("{first} and {second}").format(first=", ".join(others), second=last) if others else last
