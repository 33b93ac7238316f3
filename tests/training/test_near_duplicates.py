import numpy as np
import pytest

from detector.media.degradations import TIERS
from detector.metrics import proportion
from training import near_duplicates
from training.near_duplicates import (
    NEAR_DUPLICATE_BITS,
    Pictures,
    estimate_change,
    measure_leakage,
    merge_near_duplicates,
    perceptual_hash,
)


def test_degraded_pictures_are_near_duplicates_and_others_are_not(scene, portrait):
    for image in (portrait, scene(1)):
        own = int(perceptual_hash(image), 16)
        for degrade in filter(None, TIERS.values()):
            assert (own ^ int(perceptual_hash(degrade(image)), 16)).bit_count() <= NEAR_DUPLICATE_BITS
    hashes = [int(perceptual_hash(scene(number)), 16) for number in range(20)]
    assert min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]) > NEAR_DUPLICATE_BITS


def test_near_duplicates_are_merged_through_chains(monkeypatch):
    monkeypatch.setattr(near_duplicates, "COMPARED_AT_ONCE", 100)  # many blocks
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (60, 4), np.uint64)
    for child, parent in ((50, 3), (7, 50), (20, 21)):  # 7 is near 50 alone
        hashes[child] = hashes[parent]
        hashes[child, int(child == 7)] ^= np.uint64(2**20 - 1)
    groups = np.array([f"g{i}" for i in range(60)])
    groups[30:33] = "g30"
    hashes[31] = hashes[32]  # of one group already
    joined, near, pairs = merge_near_duplicates(hashes, groups)
    members = {frozenset(np.flatnonzero(joined == number).tolist()) for number in joined}
    assert {found for found in members if len(found) > 1} == {
        frozenset({3, 7, 50}),
        frozenset({20, 21}),
        frozenset({30, 31, 32}),
    }
    assert np.flatnonzero(near).tolist() == [3, 7, 20, 21, 50]
    assert pairs[: NEAR_DUPLICATE_BITS + 1].sum() == pairs[20] == 3
    assert pairs.sum() == 60 * 59 // 2 - 3


def test_leakage_is_measured(monkeypatch):
    """Half of the held-out pictures have a copy in train; appearance carries no other information on the label."""
    monkeypatch.setattr(near_duplicates, "COMPARED_AT_ONCE", 5000)
    rng = np.random.default_rng(0)
    hashes, labels = rng.integers(0, 2**64, (1000, 4), np.uint64), rng.integers(0, 2, 1000)
    groups, held_out = np.arange(1000), np.arange(1000) >= 800
    groups[800:900] = np.arange(100)
    hashes[800:900], labels[800:900] = hashes[:100] ^ np.uint64(3), labels[:100]
    found = measure_leakage(Pictures(labels, hashes, groups), held_out)
    leaks, right, right_without = found.leaks, found.right, found.right_without
    assert leaks.tolist() == [True] * 100 + [False] * 100 and found.is_measurable.all()
    assert right[leaks].all() and 0.3 < right_without[leaks].mean() < 0.7
    np.testing.assert_array_equal(right[~leaks], right_without[~leaks])
    gain = estimate_change(right_without, right, groups[held_out])
    assert gain.value == pytest.approx(right.mean() - right_without.mean()) and gain.n == 200
    assert 0.15 < gain.low < gain.value < gain.high < 0.35

    three = Pictures(np.array([0, 1, 1]), hashes[:3], np.array([0, 1, 0]))
    one_label_left = measure_leakage(three, np.array([False, False, True]))
    assert (one_label_left.leaks.tolist(), one_label_left.is_measurable.tolist()) == ([True], [False])


def test_a_change_of_none_or_all_is_uncertain():
    same, groups = np.ones(20, bool), np.arange(20)
    reach = proportion(np.zeros(20), groups).high
    assert estimate_change(same, same, groups).to_dict() == {"value": 0, "low": -reach, "high": reach, "n": 20}
    assert estimate_change(~same, same, groups).to_dict() == {"value": 1, "low": 1 - reach, "high": 1, "n": 20}
