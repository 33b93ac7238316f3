import numpy as np
import pytest
from voice_predictions import draw_rows

from detector import metrics
from detector.voices.detect import load_voice_detector
from training.voice_features import STORED_VOICE
from training.voice_manifest import GENERATOR
from training.voice_scoring import (
    mean_auc,
    measure_folds,
    score_predictions,
    voice_reference_scores,
)

DEGRADATIONS = (STORED_VOICE, "telephone")


@pytest.fixture(autouse=True)
def few_degradations_and_resamples(monkeypatch):
    for module in ("voice_scoring", "voice_predictions"):
        monkeypatch.setattr(f"training.{module}.WAVEFORM_DEGRADATIONS", dict.fromkeys(DEGRADATIONS))
    monkeypatch.setattr(metrics, "RESAMPLES", 40)


def predictions(**options):
    return draw_rows(degradations=DEGRADATIONS, **options)


def of_generators(rows):
    return [row for row in rows if row["held"] == GENERATOR]


def test_verdicts_use_thresholds_fitted_without_the_part_of_the_page():
    rows = predictions()
    moved = [{**row, "logit": row["logit"] + 50} if row["part"] == 2 else row for row in rows]
    before, after = score_predictions(rows), score_predictions(moved)
    assert len(before) == len(rows) and {row["verdict"] for row in before} == {"real", "deepfake", "inconclusive"}
    # The verdicts in part 2 follow from the other parts alone; those of the other parts change.
    assert all(row["verdict"] == "deepfake" for row in after if row["part"] == 2)
    probabilities = [[row["probability"] for row in scored if row["part"] == 0] for scored in (before, after)]
    assert not np.allclose(*probabilities)


def test_an_excluded_recording_is_inconclusive_and_keeps_its_reasons():
    rows = [{**row, "reasons": "noisy;no_speech"} if row["recording"] == 0 else row for row in predictions()]
    excluded = [row for row in score_predictions(rows) if row["recording"] == 0]
    assert {(row["verdict"], row["reasons"]) for row in excluded} == {("inconclusive", "noisy;no_speech")}
    between = [row for row in score_predictions(rows) if row["recording"] and row["verdict"] == "inconclusive"]
    assert {row["reasons"] for row in between} == {""}


def test_a_recording_counts_once_for_each_degradation():
    measured = measure_folds(of_generators(score_predictions(predictions())))
    assert (measured["n_real"], measured["n_fake"], measured["false_alarms"]["n"]) == (20, 20, 20 * len(DEGRADATIONS))
    assert (measured["n_pages"], measured["n_speakers"]) == (10, 10)


def test_generators_weigh_the_same_in_the_mean_auc_and_ties_count_against_the_fakes():
    label = np.array([0, 0, 1, 1, 1, 1, 1])
    logit = np.array([0.0, 5, 9, 3, 3, 0, 0])
    one_stratum = np.zeros(7, int)
    assert mean_auc(label, logit, np.array([7, 7, 0, 2, 2, 2, 2]), one_stratum) == pytest.approx((1 + 0.25) / 2)
    assert mean_auc(label, logit, one_stratum, one_stratum) == pytest.approx((1 + 0.5 + 0.5) / 5)


def test_fakes_are_compared_with_the_reals_of_their_own_stratum():
    label, logit = np.array([0, 1, 0, 1, 1]), np.array([0.0, 1, 5, 4, -9])
    unit = np.zeros(5, int)
    # The last fake is alone in its stratum and does not count.
    assert mean_auc(label, logit, unit, np.array([0, 0, 1, 1, 2])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no stratum"):
        mean_auc(label, logit, unit, np.array([0, 1, 2, 3, 4]))


def test_metrics_follow_the_gap_between_the_classes():
    wide, narrow = (measure_folds(score_predictions(predictions(gap=gap))) for gap in (4, 1))
    assert wide["auc"]["low"] > narrow["auc"]["value"] and narrow["auc"]["low"] < narrow["auc"]["high"]
    assert wide["fakes_found"]["value"] > narrow["fakes_found"]["value"]


def test_a_generator_with_few_fakes_is_listed_but_does_not_count_in_the_mean():
    few = [row for row in of_generators(score_predictions(predictions(gap=4))) if row["recording"] < 8]
    measured = measure_folds(few)
    assert measured["auc"] is None and measured["n_generators"] == 0
    listed = measured["generators"][0]
    assert (listed["name"], listed["n"], listed["n_speakers"]) == ("one", 4, 2) and listed["auc"]["value"] > 0.9


def test_the_auc_within_a_page_leaves_out_the_reals_of_other_pages(monkeypatch):
    monkeypatch.setattr("training.voice_scoring.MIN_FAKES", 2)
    rows = score_predictions(predictions(gap=4))
    reals = [row for row in rows if not row["label"]]
    elsewhere = [{**row, "page": "another", "logit": 90.0, "recording": row["recording"] + 1000} for row in reals]
    expected, found = measure_folds(rows), measure_folds(rows + elsewhere)
    assert found["auc_pages"]["value"] < 0.6 < 0.9 < found["auc_within_page"]["value"]
    assert found["auc_within_page"]["value"] == expected["auc_within_page"]["value"]


def test_pages_and_kinds_are_listed_with_their_fakes():
    measured = measure_folds(of_generators(score_predictions(predictions(gap=4))))
    assert [(page["name"], page["n"]) for page in measured["pages"]] == [(f"page {i}", 2) for i in range(10)]
    assert [(kind["name"], kind["n"]) for kind in measured["kinds"]] == [("text-to-speech", 20)]
    assert measured["auc_pages"] is None and measured["auc_kinds"]["value"] > 0.9


def test_the_reference_scores_have_each_stored_recording_once():
    detector = load_voice_detector(threads=1)
    rows = score_predictions(predictions(count=44))
    table = voice_reference_scores(rows, detector)
    assert [(size.kind, len(size.probabilities)) for size in table.sizes] == [("real", 22), ("fake", 22)]
    assert table.model_sha256 == detector.engine.model_sha256 and table.unseen
    excluded = [{**row, "reasons": "noisy"} if row["recording"] == 0 else row for row in rows]
    assert [len(size.probabilities) for size in voice_reference_scores(excluded, detector).sizes] == [21, 22]
