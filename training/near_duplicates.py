"""Near duplicates: detect them, merge their groups, and measure the leakage of a split that separates them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from detector.metrics import Estimate, bootstrap, proportion
from detector.pictures.faces import resize

HASH_SIDE = 16  # of the block of low frequencies in a perceptual hash: 256 bits, since 64 confuse faces
# Largest distance of copies. None of 400 face pictures moved more than 14 bits when re-saved, halved or blurred
# (detector.media.degradations.TIERS); among 16,001, the nearest two of different people are 26 apart.
NEAR_DUPLICATE_BITS = 24
COMPARED_AT_ONCE = 2**20  # pairs of pictures, 32 MB


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures whose leakage is measured.

    Attributes:
        labels: (N,) 1 = fake.
        hashes: (N, 4) uint64, perceptual hashes.
        groups: (N,) groups that a split should not separate.
    """

    labels: np.ndarray
    hashes: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Leakage:
    """Accuracy of a nearest-neighbour classifier on held-out pictures, with and without leakage; each (M,) booleans.

    Attributes:
        leaks: a picture of the same group is in the training part.
        is_measurable: both labels are among the training pictures of other groups.
        right: the classifier is right with the leak.
        right_without: the classifier is right without the leak.
    """

    leaks: np.ndarray
    is_measurable: np.ndarray
    right: np.ndarray
    right_without: np.ndarray


def perceptual_hash(image: np.ndarray) -> str:
    """Hash a picture's appearance: which of its 256 lowest frequencies are stronger than their median.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        64 hexadecimal digits; copies differ in few bits.

    Source:
        Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010 (the hash from the discrete
        cosine transform, there of 64 bits).
    """
    grey = cv2.cvtColor(resize(image, 4 * HASH_SIDE, 4 * HASH_SIDE), cv2.COLOR_RGB2GRAY)
    frequencies = cv2.dct(grey.astype(np.float32))[:HASH_SIDE, :HASH_SIDE]
    return np.packbits(frequencies > np.median(frequencies)).tobytes().hex()


def merge_near_duplicates(hashes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge the groups that hold near duplicates of one another, also through chains of them.

    Args:
        hashes: (N, 4) uint64, perceptual hashes.
        groups: (N,) existing groups.

    Returns:
        (N,) numbers of the merged groups; (N,) whether a picture has a near duplicate in another group; and the number
        of pairs from different groups that are 0, 1, 2 ... bits apart.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    joined, near = groups, np.zeros(len(groups), bool)
    pairs = np.zeros(HASH_SIDE**2 + 1, int)
    rows = max(1, COMPARED_AT_ONCE // len(groups))
    for start in tqdm(range(0, len(groups), rows), desc="comparing", unit="block"):
        bits = _distances(hashes[start : start + rows], hashes[start:])
        # Each pair once, and only pairs from different groups.
        foreign = np.triu(groups[start : start + rows, None] != groups[None, start:], k=1)
        pairs += np.bincount(bits[foreign], minlength=len(pairs))
        first, second = (start + places for places in np.nonzero(foreign & (bits <= NEAR_DUPLICATE_BITS)))
        near[first] = near[second] = True
        links = coo_array((np.ones(len(first), bool), (joined[first], joined[second])), shape=(len(near),) * 2)
        joined = connected_components(links, directed=False)[1][joined]
    return joined, near, pairs


def measure_leakage(pictures: Pictures, held_out: np.ndarray) -> Leakage:
    """Classify held-out pictures by their nearest neighbour, once as split and once without leakage.

    A picture gets the label of the training picture with the nearest perceptual hash. Without leakage, pictures of its
    own group are excluded.

    Args:
        pictures: N pictures.
        held_out: (N,) booleans; the M held-out pictures are classified by the others.
    """
    labels, groups, hashes = pictures.labels, pictures.groups, pictures.hashes
    training, classified = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    parts = []
    for chosen in np.array_split(classified, len(classified) * len(training) // COMPARED_AT_ONCE + 1):
        bits = _distances(hashes[chosen], hashes[training])
        own = groups[chosen, None] == groups[None, training]
        measurable = np.all([np.any(~own & (labels[training] == label), axis=1) for label in (0, 1)], axis=0)
        right = labels[training[bits.argmin(axis=1)]] == labels[chosen]
        right_without = labels[training[np.where(own, HASH_SIDE**2 + 1, bits).argmin(axis=1)]] == labels[chosen]
        parts.append((own.any(axis=1), measurable, right, right_without))
    return Leakage(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def estimate_change(before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimate how much more often something holds after than before.

    The interval comes from a bootstrap over groups, or from Wilson's interval if all changed alike.

    Args:
        before, after: (N,) booleans.
        groups: (N,) groups of dependent values.
    """
    changes = after.astype(int) - before
    if len(np.unique(changes)) > 1:
        return bootstrap(np.mean, groups, changes)
    value, reach = float(changes[0]), proportion(np.zeros(len(groups)), groups).high
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach), len(groups))


def print_leakage(sentence: str, pictures: Pictures, held_out: np.ndarray) -> None:
    """Print how many held-out pictures a split separates from their group, and its effect in points of accuracy.

    Args:
        sentence: what the split does to {}, the number of separated pictures.
        pictures: N pictures.
        held_out: (N,) booleans.
    """
    if held_out.all() or not held_out.any():
        return
    found = measure_leakage(pictures, held_out)
    groups = pictures.groups[held_out]
    separated = format_interval(proportion(found.leaks, groups))
    print(sentence.format(f"{found.leaks.sum():,} of {len(found.leaks):,} held-out pictures ({separated})"))
    if not (found.leaks & found.is_measurable).any():
        return
    for chosen, which in ((found.leaks & found.is_measurable, "these"), (found.is_measurable, "all")):
        right, right_without = found.right[chosen], found.right_without[chosen]
        with_leak, without = (format_interval(proportion(column, groups[chosen])) for column in (right, right_without))
        gain = estimate_change(right_without, right, groups[chosen])
        print(
            f"  Of {which} {gain.n:,}, the label of the most similar training picture is right for {with_leak}, "
            f"without the leak for {without}. "
            f"The leak adds {100 * gain.value:+.1f} points [{100 * gain.low:+.1f} to {100 * gain.high:+.1f}]."
        )


def format_interval(estimate: Estimate) -> str:
    """Return a proportion and its interval in percent."""
    return f"{100 * estimate.value:.1f}% [{100 * estimate.low:.1f} to {100 * estimate.high:.1f}]"


def _distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the number of bits that differ, (N, M), between hashes (N, 4) and (M, 4) uint64."""
    return np.asarray(np.bitwise_count(hashes[:, None] ^ others[None]).sum(axis=2, dtype=np.int16))
