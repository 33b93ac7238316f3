from types import SimpleNamespace

import numpy as np
import pytest

from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.results import Verdict
from detector.verdicts import classify, decide
from training import calibrating, thresholds
from training.calibrating import UNCALIBRATED, calibrate, fit_calibration, print_calibration, write_calibrated
from training.thresholds import choose_thresholds

pytestmark = pytest.mark.slow


def drawn_rows(*, odd_source_shift=0.0, seed=0, pictures=400):
    """Scores of equally many reals and fakes under every degradation; one source of reals scores higher."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(pictures):
        label, source = index % 2, ("plain", "odd")[index % 8 == 0]
        logit = rng.normal(3.0 if label else -1.0, 1.5) + odd_source_shift * (source == "odd")
        for tier in TIERS:
            score = logit + rng.normal(0, 0.3) + (tier == "blur1") * 0.5
            row = {"path": str(index), "label": label, "source": source, "delivery": tier, "logit": score}
            rows.append(row | {"reasons": ""})
    return rows


def rates(calibration, rows, tier, *, label, verdict, source=None):
    chosen = [r for r in rows if r["delivery"] == tier and r["label"] == label and source in (None, r["source"])]
    return np.mean([decide(row["logit"], (), calibration).verdict == verdict for row in chosen])


def test_the_stated_rates_hold_under_every_degradation():
    rows = drawn_rows()
    fitted = fit_calibration(rows)
    alarms = [rates(fitted, rows, tier, label=0, verdict=Verdict.DEEPFAKE) for tier in TIERS]
    misses = [rates(fitted, rows, tier, label=1, verdict=Verdict.REAL) for tier in TIERS]
    assert max(alarms) == pytest.approx(calibrating.MAX_FALSE_ALARMS) and max(misses) <= calibrating.MAX_MISSES
    assert alarms[list(TIERS).index("blur1")] == max(alarms)


def test_a_source_of_reals_that_scores_high_moves_the_threshold(monkeypatch):
    rows = drawn_rows(odd_source_shift=3.0)
    fitted = fit_calibration(rows)
    worst = max(rates(fitted, rows, tier, label=0, verdict=Verdict.DEEPFAKE, source="odd") for tier in TIERS)
    assert worst <= calibrating.MAX_SOURCE_FALSE_ALARMS
    monkeypatch.setattr(thresholds, "MIN_SOURCE", 1000)  # too few to use
    careless = fit_calibration(rows)
    assert careless.threshold_fake < fitted.threshold_fake
    worst = max(rates(careless, rows, tier, label=0, verdict=Verdict.DEEPFAKE, source="odd") for tier in TIERS)
    assert worst > calibrating.MAX_SOURCE_FALSE_ALARMS


def test_limits_that_cross_leave_no_more_undecided_than_they_allow():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 1000)
    probabilities = np.concatenate([rng.beta(1, 6, 1000), rng.beta(6, 1, 1000)])  # AUC .999
    low, high = choose_thresholds([(probabilities, labels)], max_false_alarms=0.02, max_misses=0.12)
    real, fake = probabilities[:1000], probabilities[1000:]
    assert low < high  # and not one threshold: that would be at the limit of one rate, or of none by chance
    assert np.mean(real >= low) <= 0.02 and np.mean(fake <= high) <= 0.12  # undecided and wrong together
    assert np.mean(real >= high) < 0.01 and np.mean(fake <= low) < 0.04


def test_a_floor_opens_no_unneeded_gap():
    labels = np.repeat([0, 1], 100)
    probabilities = np.concatenate([np.linspace(0, 0.3, 100), np.linspace(0.7, 1, 100)])  # separated with a margin
    low, high = choose_thresholds([(probabilities, labels)], max_false_alarms=0.03, max_misses=0.05, floor=0.65)
    assert low == 0.65 and 0.71 < high < 0.72 and np.mean((probabilities > low) & (probabilities < high)) < 0.03
    low, high = choose_thresholds([(probabilities, labels)], max_false_alarms=0.03, max_misses=0.05, floor=0.9)
    assert high == 0.9 and np.mean(probabilities[100:] <= low) == 0.05  # exactly the allowed misses


def test_without_a_face_in_both_kinds_nothing_is_written(tmp_path, monkeypatch):
    faceless = [{**row, "reasons": "no_face" if row["label"] else ""} for row in drawn_rows(pictures=20)]
    monkeypatch.setattr(calibrating, "read_spec", lambda path: SimpleNamespace(training={}))
    monkeypatch.setattr(calibrating, "export", lambda source, target: None)
    monkeypatch.setattr(calibrating, "load_scoring_detector", lambda _: None)
    monkeypatch.setattr(calibrating, "score", lambda detector, examples, folder: faceless)
    with pytest.raises(SystemExit, match="The 20 calibration pictures cannot calibrate the model"):
        calibrate(tmp_path / "model.h5", list(range(20)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("training", [{"kinds": ["swap"]}, {"members": [{}, {"kinds": ["swap"]}]}])
def test_heads_are_not_calibrated_on_pictures_they_learned_from(training, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrating, "read_spec", lambda path: SimpleNamespace(training=training))
    with pytest.raises(SystemExit, match=r"model\.h5 learned from the calibration pictures.*--scores"):
        calibrate(tmp_path / "model.h5", [])


def test_a_calibration_that_fails_leaves_the_old_model(tmp_path, monkeypatch):
    def fail(path, examples):
        raise KeyboardInterrupt

    (tmp_path / "model.h5").write_bytes(b"yesterday's")
    monkeypatch.setattr(calibrating, "save_model", lambda path, network, spec: path.write_bytes(b"new"))
    monkeypatch.setattr(calibrating, "calibrate", fail)
    with pytest.raises(KeyboardInterrupt):
        write_calibrated(tmp_path / "model.h5", None, None, [])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"yesterday's"]


def test_the_probability_is_right_on_average():
    rows = drawn_rows(pictures=2000)
    fitted = fit_calibration(rows)
    probability = fitted.probability(np.array([row["logit"] for row in rows]))
    assert probability.mean() == pytest.approx(0.5, abs=0.02)


def test_the_degradations_of_a_picture_count_as_one_picture():
    rows = [{"path": str(i), "label": i % 2, "source": "s", "delivery": tier, "logit": 4.0 * (i % 2) - 2}
            for i in range(6) for tier in TIERS]  # fmt: skip
    assert fit_calibration(rows).probability(2.0) < 0.85  # as for three pictures of a kind, not twelve


def test_an_uncalibrated_model_decides_nothing():
    probabilities = UNCALIBRATED.probability(np.linspace(-20, 20, 9))
    assert {classify(p, UNCALIBRATED) for p in probabilities} == {Verdict.INCONCLUSIVE}


def test_the_error_rates_are_printed(capsys):
    rows = drawn_rows(odd_source_shift=1.0)
    print_calibration(Calibration(1.0, 0.0, 0.2, 0.9), rows)
    printed = capsys.readouterr().out
    assert "real up to 0.2000, deepfake from 0.9000" in printed and all(tier in printed for tier in TIERS)
    assert "of odd)" in printed and "n 400" in printed
