import numpy as np
import pytest
from voice_predictions import draw_rows

from training.calibrating import MAX_FALSE_ALARMS
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_predictions import (
    MAX_VOICE_MISSES,
    OLD_PREDICTIONS_FILE,
    PREDICTIONS_FILE,
    fit_voice_calibration,
    read_fold_predictions,
    write_fold_predictions,
)


def test_predictions_are_read_as_they_were_written(tmp_path):
    rows = draw_rows(4)
    write_fold_predictions(rows, tmp_path)
    assert read_fold_predictions(tmp_path) == rows


def test_the_old_file_is_read_where_there_is_no_other(tmp_path):
    old, new = draw_rows(4, seed=1), draw_rows(4, seed=2)
    write_fold_predictions(old, tmp_path)
    (tmp_path / PREDICTIONS_FILE).rename(tmp_path / OLD_PREDICTIONS_FILE)
    assert OLD_PREDICTIONS_FILE == "answers.csv" and read_fold_predictions(tmp_path) == old
    write_fold_predictions(new, tmp_path)
    assert read_fold_predictions(tmp_path) == new


def test_a_folder_without_predictions_is_rejected_with_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"There is no .*fold_predictions\.csv"):
        read_fold_predictions(tmp_path)


def test_the_thresholds_keep_the_error_rates_in_the_worst_degradation():
    rows = draw_rows(400)
    for row in rows:
        row["logit"] += row["delivery"] == "telephone"  # the worst one for reals
    calibration = fit_voice_calibration(rows)
    for name in WAVEFORM_DEGRADATIONS:
        own = [row for row in rows if row["delivery"] == name]
        probability = calibration.probability(np.array([row["logit"] for row in own]))
        label = np.array([row["label"] for row in own])
        assert (probability[label == 0] >= calibration.threshold_fake).mean() <= MAX_FALSE_ALARMS
        assert (probability[label == 1] <= calibration.threshold_real).mean() <= MAX_VOICE_MISSES


def test_both_classes_weigh_the_same_in_the_calibration():
    rows = draw_rows(200)
    reals = [row for row in rows if not row["label"]]
    assert fit_voice_calibration(rows + reals).probability(1.0) == pytest.approx(
        fit_voice_calibration(rows).probability(1.0), abs=0.01
    )


def test_excluded_recordings_do_not_calibrate():
    rows = draw_rows()
    excluded = [{**row, "logit": 50.0, "reasons": "noisy"} for row in rows if not row["label"]]
    assert fit_voice_calibration(rows + excluded) == fit_voice_calibration(rows)
    with pytest.raises(SystemExit, match="needed in every degradation"):
        fit_voice_calibration([row for row in rows if not (row["label"] and row["delivery"] == "telephone")])
