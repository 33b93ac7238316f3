import numpy as np
import pytest

from detector.models.calibration import Calibration, sigmoid
from detector.results import Verdict
from detector.verdicts import classify
from training.thresholds import choose_thresholds, fit_line

TIERS_OF_A_SEED = 3


def drawn_tiers(seed, fake_level):
    """Probabilities of the same pictures after three degradations, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(int(rng.integers(4, 300))) % 2
    logits = rng.normal(np.where(labels, fake_level, -1.5), 1.0)
    return [(sigmoid(logits + rng.normal(0, 0.7, len(labels))), labels) for _ in range(TIERS_OF_A_SEED)]


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (1.7, -0.6), (0.25, 2.0)])
def test_a_known_line_is_found_again(slope, intercept):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    labels = rng.random(20_000) < sigmoid(slope * logits + intercept)
    np.testing.assert_allclose(fit_line(logits, labels), (slope, intercept), atol=0.08)


def test_a_weight_of_two_counts_like_two_pictures():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, 60), rng.integers(0, 2, 60)
    weights = rng.integers(1, 4, 60)
    repeated = fit_line(np.repeat(logits, weights), np.repeat(labels, weights))
    np.testing.assert_allclose(fit_line(logits, labels, weights), repeated, atol=1e-4)
    assert not np.allclose(fit_line(logits, labels), repeated, atol=1e-2)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0), (1, 30), (30, 150), (1000, -5000)])
def test_the_units_of_a_network_do_not_matter(scale, shift):
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 2
    logits = rng.normal(labels * 2 - 1.0, 1.0)
    expected = Calibration(*fit_line(logits, labels), 0, 1).probability(logits)
    assert 0.1 < np.mean(expected[labels == 0]) < 0.3
    other = logits * scale + shift
    np.testing.assert_allclose(Calibration(*fit_line(other, labels), 0, 1).probability(other), expected, atol=1e-3)


def test_an_uninformative_network_ends_in_inconclusive():
    labels = np.arange(100) % 2
    upside_down = np.where(labels, -1.0, 1.0)
    line = Calibration(*fit_line(upside_down, labels), 0, 1)
    probabilities = line.probability(upside_down)
    low, high = choose_thresholds([(probabilities, labels)], max_false_alarms=0.03, max_misses=0.05)
    assert {classify(p, Calibration(1, 0, low, high)) for p in probabilities} == {Verdict.INCONCLUSIVE}


def test_perfect_separation_gives_no_certainty():
    slope, intercept = fit_line(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))
    assert 0.55 < Calibration(slope, intercept, 0, 1).probability(2.0) < 0.95


@pytest.mark.parametrize("fake_level", [0.0, 1.5, 4.0], ids=["hard", "usual", "easy"])
def test_thresholds_keep_their_error_rates_in_the_worst_degradation(fake_level):
    for seed in range(60):
        tiers = drawn_tiers(seed, fake_level)
        alarms, misses = [(0.03, 0.05), (0.0, 0.0), (0.5, 0.01)][seed % 3]
        low, high = choose_thresholds(tiers, max_false_alarms=alarms, max_misses=misses)
        assert low <= high
        calibration = Calibration(1, 0, low, high)
        for probabilities, labels in tiers:
            verdicts = np.array([classify(probability, calibration) for probability in probabilities])
            assert np.mean(verdicts[labels == 0] == Verdict.DEEPFAKE) <= alarms
            assert np.mean(verdicts[labels == 1] == Verdict.REAL) <= misses


def test_the_gap_between_the_thresholds_is_no_wider_than_needed():
    labels = np.repeat([0, 1], 100)
    probabilities = np.concatenate([np.linspace(0, 0.7, 100), np.linspace(0.3, 1, 100)])
    low, high = choose_thresholds([(probabilities, labels)], max_false_alarms=0.03, max_misses=0.05)
    assert np.mean(probabilities[:100] >= high) == 0.03 and np.mean(probabilities[:100] >= np.nextafter(high, 0)) > 0.03
    assert np.mean(probabilities[100:] <= low) == 0.05 and np.mean(probabilities[100:] <= np.nextafter(low, 1)) > 0.05


def test_thresholds_need_both_labels():
    with pytest.raises(ValueError, match="both classes"):
        choose_thresholds([(np.array([0.1, 0.9]), np.array([1, 1]))], max_false_alarms=0.1, max_misses=0.1)


@pytest.mark.parametrize(
    ("low", "high", "probability", "verdict"),
    [
        (0.2, 0.8, 0.2, Verdict.REAL),
        (0.2, 0.8, np.nextafter(0.2, 1), Verdict.INCONCLUSIVE),
        (0.2, 0.8, np.nextafter(0.8, 0), Verdict.INCONCLUSIVE),
        (0.2, 0.8, 0.8, Verdict.DEEPFAKE),
        (0.2, 0.8, 0.0, Verdict.REAL),
        (0.2, 0.8, 1.0, Verdict.DEEPFAKE),
        (0.4, 0.4, 0.4, Verdict.DEEPFAKE),
    ],
)
def test_verdicts_at_the_thresholds(low, high, probability, verdict):
    assert classify(probability, Calibration(1, 0, low, high)) is verdict


def test_one_logit_gives_a_float_and_many_an_array():
    calibration = Calibration(2.0, -1.0, 0.2, 0.8)
    one = calibration.probability(np.float32(0.5))
    assert type(one) is float and one == 0.5
    many = calibration.probability(np.array([[-1e4, -1.0], [2.0, 1e4]], np.float32))
    assert many.shape == (2, 2) and np.all(np.diff(many.ravel()) > 0) and many.min() == 0 and many.max() == 1
