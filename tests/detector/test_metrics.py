"""Metrics against scikit-learn, and the coverage of intervals."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detector.metrics import (
    auc,
    bootstrap,
    calibration_error,
    equal_error_rate,
    perfect_calibration_error,
    proportion,
    roc_auc,
)


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learn_with_ties(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, 20, 300)
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_auc_of_one_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        roc_auc(np.ones(3), np.arange(3))


def test_interval_covers_the_truth_at_about_its_stated_rate():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        values = rng.random(80) < 0.3
        estimate = proportion(values, np.arange(80))
        covered += estimate.low <= 0.3 <= estimate.high
    assert covered >= 51  # 57 expected


def test_correlated_groups_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).random(40) < 0.5, 10)
    alone = bootstrap(np.mean, np.arange(400), values)
    grouped = bootstrap(np.mean, np.repeat(np.arange(40), 10), values)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert grouped.value == alone.value and grouped.n == 400


def test_no_errors_is_not_certainty():
    estimate = proportion(np.zeros(54, bool), np.arange(54))
    assert (estimate.value, estimate.low) == (0, 0)
    assert 0.05 < estimate.high < 0.08  # Wilson, 0 of 54


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(np.array([0, 0, 1, 1]), np.array([1, 2, 3, 4])) == 0
    assert equal_error_rate(np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4])) == 0.5


def test_calibration_error_measures_overconfidence():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000)
    labels = (rng.random(20_000) < truth).astype(int)
    assert calibration_error(labels, truth) < 0.02
    assert calibration_error(labels, np.clip(truth * 2 - 0.5, 0, 1)) > 0.08


@pytest.mark.parametrize("fakes", [0.2, 0.5, 0.8])
def test_probabilities_that_assume_half_are_fakes_are_measured_where_others_are(fakes):
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < fakes).astype(int)
    scores = rng.normal(labels, 1)
    probabilities = 1 / (1 + np.exp(0.5 - scores))  # the density of a fake against that of a real picture
    assert calibration_error(labels, probabilities) < perfect_calibration_error(labels, probabilities)


@pytest.mark.parametrize("groups", [np.arange(40), np.arange(40) // 4])
def test_more_errors_never_lower_a_bound(groups):
    estimates = [proportion(np.arange(40) < hits, groups) for hits in range(41)]
    assert estimates == sorted(estimates, key=lambda estimate: estimate.value)
    if len(np.unique(groups)) == 40:
        assert all(np.diff([estimate.low for estimate in estimates]) >= 0)
        assert all(np.diff([estimate.high for estimate in estimates]) >= 0)
    assert all(0 <= estimate.low < estimate.high <= 1 for estimate in estimates)


def test_a_perfect_auc_is_not_certainty():
    labels = np.repeat([0, 1], [157, 81])
    estimate = auc(labels, labels.astype(float), np.arange(238))
    assert (estimate.value, estimate.high) == (1, 1) and 0.94 < estimate.low < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_upward_biased_statistic_gets_an_interval_around_it(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(400)
    labels = (rng.random(400) < truth).astype(int)
    estimate = bootstrap(calibration_error, np.arange(400), labels, truth, pivot=True)
    assert 0 <= estimate.low <= estimate.value <= estimate.high


@pytest.mark.slow
def test_perfect_probabilities_stay_under_their_bound_at_about_its_stated_rate():
    rng = np.random.default_rng(0)
    truth = rng.beta(0.5, 0.5, 500)
    half = np.arange(500) % 2
    bound = perfect_calibration_error(half, truth)
    errors = np.array([calibration_error(rng.random(500) < truth, truth) for _ in range(400)])
    assert 0.92 <= np.mean(errors <= bound) <= 0.98  # 0.95 expected
    assert bound == perfect_calibration_error(half, truth)
    assert bound > perfect_calibration_error(np.tile(half, 4), np.tile(truth, 4))


@pytest.mark.slow
def test_overconfidence_exceeds_the_bound_of_perfect_probabilities():
    rng = np.random.default_rng(0)
    truth = rng.random(2000)
    claimed = np.clip(truth * 1.4 - 0.2, 0, 1)
    labels = rng.random(2000) < truth
    assert calibration_error(labels, claimed) > perfect_calibration_error(labels, claimed)
