"""Calibration by the scores of families and sources left out; all rows are made up."""

import csv

import numpy as np
import pytest
from score_rows import complete_row

from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.models.reference_scores import read_reference_scores
from detector.models.spec import FaceInput, ModelSpec, file_sha256, read_spec, write_spec
from detector.results import Verdict
from detector.verdicts import decide
from scripts import calibrate as command
from training import calibrating
from training.calibrating import (
    KNOWN_LIMITS,
    UNCALIBRATED,
    calibrate_from_scores,
    fit_calibration,
    print_calibration,
)
from training.thresholds import UNSEEN_LIMITS
from training.unseen_scores import read_unseen_scores, unseen_reference_scores

pytestmark = pytest.mark.slow


def made_rows(pictures=800, *, gap=2.0, reasons="", seed=0):
    """Scores of reals and fakes of five folds under every degradation; groups hold two pictures."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(pictures):
        label, fold = number % 2, number % 5
        logit = rng.normal(gap * label, 1.0) + 0.3 * (fold == 1)
        for tier in TIERS:
            score = round(float(logit + rng.normal(0, 0.3) + 0.4 * (tier == "blur1")), 5)
            row = {"path": f"{number}.jpg", "label": label, "source": f"s{fold}", "group": f"g{number // 4}-{label}"}
            row |= {"delivery": tier, "logit": score, "reasons": reasons, "face_px": 120, "fold": fold}
            rows.append(complete_row(**row, family=f"f{fold}", kind="swap" if label else "photograph"))
    return rows


def write_rows(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def model(tmp_path):
    """A model.h5 that holds nothing but a spec: no network is needed."""
    import h5py

    path = tmp_path / "model.h5"
    h5py.File(path, "w").close()
    write_spec(path, ModelSpec("mobilenet", FaceInput(64, 1.3), UNCALIBRATED, {"date": "today"}))
    return path


def rates(rows, calibration, label, verdict):
    """The rate of a verdict in each degradation."""
    chosen = {tier: [r for r in rows if r["delivery"] == tier and r["label"] == label] for tier in TIERS}
    return [np.mean([decide(r["logit"], (), calibration).verdict == verdict for r in own]) for own in chosen.values()]


def test_thresholds_keep_the_limits_of_kinds_left_out():
    rows = made_rows()
    fitted = fit_calibration(rows, UNSEEN_LIMITS)
    alarms, misses = rates(rows, fitted, 0, Verdict.DEEPFAKE), rates(rows, fitted, 1, Verdict.REAL)
    assert max(alarms) <= 0.02 and 0.11 < max(misses) <= 0.12
    for source in {row["source"] for row in rows}:
        assert max(rates([r for r in rows if r["source"] == source], fitted, 0, Verdict.DEEPFAKE)) <= 0.06
    known = fit_calibration(rows, KNOWN_LIMITS)
    assert known.threshold_real < fitted.threshold_real and fit_calibration(rows) == known


def test_one_command_writes_line_thresholds_and_reference_scores(model, tmp_path, monkeypatch, capsys):
    table, scores = tmp_path / "face.reference_scores.json", write_rows(tmp_path / "unseen.csv", made_rows())
    monkeypatch.setattr(calibrating, "MODEL", model)
    monkeypatch.setattr(calibrating, "REFERENCE_SCORES_FILE", table)
    command.main(["--model", str(model), "--scores", str(scores)])
    spec, found = read_spec(model), read_reference_scores(table)
    assert spec.calibration == fit_calibration(made_rows(), UNSEEN_LIMITS)
    assert spec.training == {"date": "today", "calibrated_on": "unseen"} and spec.network == "mobilenet"
    assert found.unseen and found.model_sha256 == file_sha256(model) and found.split == "folds"
    said = " ".join(capsys.readouterr().out.split())
    assert "a network that had not learned from the picture's family or source" in said
    assert "model.h5 is taken to have learned from all of them" in said
    assert "python scripts/export.py" in said and "reals called deepfake 0.0" in said


def test_another_model_leaves_the_shipped_reference_scores(model, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrating, "REFERENCE_SCORES_FILE", tmp_path / "face.reference_scores.json")
    command.main(["--model", str(model), "--scores", str(write_rows(tmp_path / "unseen.csv", made_rows()))])
    assert read_spec(model).training["calibrated_on"] == "unseen"
    assert not (tmp_path / "face.reference_scores.json").exists()


def test_reference_scores_are_of_stored_pictures_through_the_calibration_in_their_groups():
    rows, line = made_rows(), Calibration(0.7, -0.4, 0.2, 0.9)
    table = unseen_reference_scores(rows, line, "7" * 64)
    stored = {label: [r for r in rows if r["delivery"] == "stored" and r["label"] == label] for label in (0, 1)}
    for size, own in zip(table.sizes, stored.values(), strict=True):
        expected = np.sort(line.probability(np.array([row["logit"] for row in own])))
        np.testing.assert_allclose(size.probabilities, expected, atol=1e-4)
        assert len(np.unique(size.groups)) == len({row["group"] for row in own}) == 200
    assert {rate.unseen for rate in table.error_rates(0.5, 120)} == {True}


def test_pictures_without_a_verdict_count_nowhere(model, tmp_path):
    small = [row | {"face_px": 5, "path": f"small {row['path']}"} for row in made_rows(200, reasons="too_small")]
    dark = [row | {"path": f"dark {row['path']}"} for row in made_rows(200, reasons="too_dark;between_thresholds")]
    table = tmp_path / "table.json"
    fitted = calibrate_from_scores(model, made_rows() + small + dark, reference_scores=table)
    assert fitted == fit_calibration(made_rows(), UNSEEN_LIMITS)
    assert sum(len(size.probabilities) for size in read_reference_scores(table).sizes) == 800


def test_undecided_rows_are_kept(model):
    rows = made_rows(reasons="between_thresholds")  # by the calibration of the fold's own network
    assert calibrate_from_scores(model, rows) == fit_calibration(rows, UNSEEN_LIMITS)


def test_scores_without_both_classes_leave_the_model_as_it_is(model):
    before = model.read_bytes()
    with pytest.raises(SystemExit, match="The 400 calibration pictures cannot calibrate the model"):
        calibrate_from_scores(model, [row for row in made_rows() if row["label"]])
    assert model.read_bytes() == before


def test_rows_of_a_cross_validation_are_read_as_written(tmp_path):
    rows = made_rows(10)
    assert read_unseen_scores(write_rows(tmp_path / "unseen.csv", rows)) == rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: None, "cross_validate"),
        (lambda rows: [{k: v for k, v in row.items() if k != "fold"} for row in rows], "lack the columns fold"),
        (lambda rows: [row | {"fold": ""} for row in rows], "every row needs a fold"),
        (lambda rows: [row | {"fold": 3} for row in rows], "there are at least two"),
        (lambda rows: [row | {"logit": "high"} for row in rows], "'high'"),
    ],
    ids=["missing", "no fold", "empty fold", "one fold", "no number"],
)
def test_other_files_are_refused_with_a_sentence(change, said, tmp_path):
    if rows := change(made_rows(10)):
        write_rows(tmp_path / "unseen.csv", rows)
    with pytest.raises(SystemExit, match=said):
        read_unseen_scores(tmp_path / "unseen.csv")


def test_a_missing_model_is_reported(tmp_path):
    scores = write_rows(tmp_path / "unseen.csv", made_rows(10))
    with pytest.raises(SystemExit, match=r"none\.h5 is missing"):
        command.main(["--model", str(tmp_path / "none.h5"), "--scores", str(scores)])


def test_a_calibration_by_pictures_of_known_sources_says_so(model, monkeypatch):
    monkeypatch.setattr(calibrating, "export", lambda source, target: None)
    monkeypatch.setattr(calibrating, "load_scoring_detector", lambda _: None)
    monkeypatch.setattr(calibrating, "score", lambda detector, examples, folder: made_rows())
    assert calibrating.calibrate(model, []) == fit_calibration(made_rows(), KNOWN_LIMITS)
    assert read_spec(model).training["calibrated_on"] == "known"


def test_the_worst_source_is_one_with_enough_pictures(capsys):
    rows = made_rows()
    odd = [row | {"source": "one picture", "logit": 99.0, "label": 0} for row in made_rows(1)]
    print_calibration(Calibration(1.0, 0.0, 0.2, 0.9), rows + odd)
    assert "one picture" not in capsys.readouterr().out
    print_calibration(Calibration(1.0, 0.0, 0.2, 0.9), odd + [row for row in rows if row["label"]])
    assert "(1.000 of one picture)" in capsys.readouterr().out
