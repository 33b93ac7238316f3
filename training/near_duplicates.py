"""Pictures that are nearly the same: telling them, joining their groups, and what parting them would be worth."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from detector.metrics import Estimate, bootstrap, proportion
from detector.pictures.faces import resize

HASH_SIDE = 16  # of the block of low frequencies in a perceptual hash: 256 bits, since 64 take faces for one another
# Up to here pictures are copies. None of 400 face pictures moved more than 14 bits when it was re-saved, halved or
# blurred (detector.media.degradations.TIERS); among 16,001, the nearest two that show different people are 26 apart.
NEAR_DUPLICATE_BITS = 24
COMPARED_AT_ONCE = 2**20  # pairs of pictures, 32 MB


def perceptual_hash(image: np.ndarray) -> str:
    """Hash what a picture looks like: which of its 256 lowest frequencies are stronger than their median.

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
    """Join the groups that hold near duplicates of one another, in chains as long as they get.

    Args:
        hashes: (N, 4) uint64, perceptual hashes.
        groups: (N,) what belongs together already.

    Returns:
        (N,) numbers of the joined groups; (N,) whether a picture has a near duplicate in another group; and how many pairs
        from different groups are 0, 1, 2 ... bits apart.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    joined, near = groups, np.zeros(len(groups), bool)
    pairs = np.zeros(HASH_SIDE**2 + 1, int)
    rows = max(1, COMPARED_AT_ONCE // len(groups))
    for start in tqdm(range(0, len(groups), rows), desc="comparing", unit="block"):
        bits = _distances(hashes[start : start + rows], hashes[start:])
        # Each pair once: what comes later in the list, and from another group.
        foreign = np.triu(groups[start : start + rows, None] != groups[None, start:], k=1)
        pairs += np.bincount(bits[foreign], minlength=len(pairs))
        first, second = np.nonzero(foreign & (bits <= NEAR_DUPLICATE_BITS)) + np.int64(start)
        near[first] = near[second] = True
        links = coo_array((np.ones(len(first), bool), (joined[first], joined[second])), shape=(len(near),) * 2)
        joined = connected_components(links, directed=False)[1][joined]
    return joined, near, pairs


def measure_leakage(
    labels: np.ndarray, hashes: np.ndarray, groups: np.ndarray, held_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Let a classifier that only remembers judge what is held out, once as cut and once without leak.

    It gives a picture the label of the one with the nearest perceptual hash among those that are learned from; the
    second time those of the picture's own group are not among them.

    Args:
        labels: (N,) 1 = fake.
        hashes: (N, 4) uint64, perceptual hashes.
        groups: (N,) what should not have been parted.
        held_out: (N,) booleans.

    Returns:
        Of each held-out picture (M,): whether some of its group are learned from; whether both labels are among the
        others, without which nothing can be told; whether it was judged right with the leak; and without it.
    """
    learned, judged = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    parts = []
    for chosen in np.array_split(judged, len(judged) * len(learned) // COMPARED_AT_ONCE + 1):
        bits = _distances(hashes[chosen], hashes[learned])
        own = groups[chosen, None] == groups[None, learned]
        told = np.all([np.any(~own & (labels[learned] == label), axis=1) for label in (0, 1)], axis=0)
        right = labels[learned[bits.argmin(axis=1)]] == labels[chosen]
        right_without = labels[learned[np.where(own, HASH_SIDE**2 + 1, bits).argmin(axis=1)]] == labels[chosen]
        parts.append((own.any(axis=1), told, right, right_without))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def change(before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimate how much more often something holds after than before; Wilson's reach where all changed alike.

    Args:
        before, after: (N,) booleans.
        groups: (N,) what belongs together.
    """
    changes = after.astype(int) - before
    if len(np.unique(changes)) > 1:
        return bootstrap(np.mean, groups, changes)
    value, reach = float(changes[0]), proportion(np.zeros(len(groups)), groups).high
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach), len(groups))


def format_leakage(
    sentence: str, labels: np.ndarray, hashes: np.ndarray, groups: np.ndarray, held_out: np.ndarray
) -> None:
    """Print how many held-out pictures a cut parts from their group, and how many points of accuracy that is worth.

    Args:
        sentence: what the cut does to {}, the pictures it parts.
        labels, hashes, groups, held_out: as in `judge_leak`.
    """
    if held_out.all() or not held_out.any():
        return
    leaks, told, right, right_without = measure_leakage(labels, hashes, groups, held_out)
    parted = _percent(proportion(leaks, groups[held_out]))
    print(sentence.format(f"{leaks.sum():,} of {len(leaks):,} held-out pictures ({parted})"))
    if not (leaks & told).any():
        return
    for chosen, which in ((leaks & told, "these"), (told, "all")):
        own = groups[held_out][chosen]
        with_leak, without = (_percent(proportion(column[chosen], own)) for column in (right, right_without))
        worth = change(right_without[chosen], right[chosen], own)
        print(
            f"  Of {which} {worth.n:,}, guessing the label of the most similar picture that is learned from gets "
            f"{with_leak} right, without the leak {without}: "
            f"the leak is worth {100 * worth.value:+.1f} points [{100 * worth.low:+.1f} to {100 * worth.high:+.1f}]."
        )


def _distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how many bits differ, (N, M), between hashes (N, 4) and (M, 4) uint64."""
    return np.bitwise_count(hashes[:, None] ^ others[None]).sum(axis=2, dtype=np.int16)


def _percent(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f} to {100 * figure.high:.1f}]"
