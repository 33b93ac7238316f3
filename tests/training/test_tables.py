"""Figures of scores made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from score_rows import make_row, with_own_groups
from sklearn.metrics import accuracy_score, f1_score

from detector import metrics as estimates
from detector.metrics import Estimate
from detector.models.spec import FaceInput, ModelSpec
from training.calibrating import UNCALIBRATED
from training.tables import (
    family_of,
    format_estimate,
    format_header,
    measure_families,
    measure_rows,
    reference_scores_from,
    training_account,
)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 50)
        yield


def test_forced_figures_count_every_picture_including_inconclusive_ones():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 40), rng.normal(0.4, 1, 40)
    measured = measure_rows(
        with_own_groups([make_row(int(label), "x", logit) for label, logit in zip(labels, logits, strict=True)])
    )
    assert measured["inconclusive"]["value"] == 1
    assert measured["accuracy_all"]["value"] == pytest.approx(accuracy_score(labels, logits >= 0))
    assert measured["f1"]["value"] == pytest.approx(f1_score(labels, logits >= 0))
    assert all(
        measured[name]["low"] < measured[name]["value"] < measured[name]["high"] for name in ("accuracy_all", "f1")
    )


def test_accuracy_of_the_decided_weighs_both_labels_equally():
    reals = [make_row(0, "camera", -1, "real")] * 6 + [make_row(0, "camera", 2, "deepfake")] * 2
    fakes = [make_row(1, "x", 1, "deepfake"), make_row(1, "x", -3, "real"), make_row(1, "x", 0)]
    measured = measure_rows(with_own_groups(reals + fakes))
    assert measured["accuracy_decided"]["value"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert measured["accuracy_decided"]["n"] == 10


def test_a_figure_without_one_of_the_labels_is_none():
    measured = measure_rows(with_own_groups([make_row(0, "camera", -1, "real")] * 3))
    assert measured["auc"] is None and measured["misses"] is None and measured["false_alarms"]["value"] == 0


@pytest.mark.parametrize(
    ("generator", "family"),
    [
        ("face-swap", "face swaps"),
        ("stylegan-type", "StyleGAN"),
        ("StyleGAN2", "StyleGAN"),
        ("SDXL", "SDXL"),
        ("an unlisted one", "an unlisted one"),
    ],
)
def test_generators_of_one_kind_are_one_family(generator, family):
    assert family_of(generator) == family


def test_swaps_and_generated_faces_are_each_measured_against_every_real():
    reals = [make_row(0, "camera", logit, "real") for logit in (-3, -2, -1)]
    reals += [make_row(0, "camera (phone)", 1.5, "inconclusive")]
    fakes = [make_row(1, "face-swap", logit, verdict) for logit, verdict in ((-2.5, "real"), (2, "deepfake"))]
    fakes += [make_row(1, "stylegan-type", 3, "deepfake"), make_row(1, "stylegan2", 1), make_row(1, "SDXL", 4)]
    rows = {row["family"]: row for row in measure_families(with_own_groups(reals + fakes))}
    assert {name: row["n"] for name, row in rows.items()} == {
        "face swaps": 2, "generated faces": 3, "SDXL": 1, "StyleGAN": 2
    }  # fmt: skip
    assert rows["StyleGAN"]["generators"] == ["stylegan-type", "stylegan2"]
    assert rows["face swaps"]["auc"]["value"] == pytest.approx(5 / 8)
    assert rows["generated faces"]["auc"]["value"] == pytest.approx(11 / 12)
    assert (rows["face swaps"]["misses"]["value"], rows["face swaps"]["inconclusive"]["value"]) == (0.5, 0)
    assert rows["StyleGAN"]["inconclusive"]["value"] == 0.5


def test_reference_scores_leave_out_faces_too_small_to_classify():
    rows = [make_row(n % 2, "x", n / 10, face_px=(200, 200, 200, 39, 0)[n % 5]) for n in range(100)]
    sizes = reference_scores_from(with_own_groups(rows), "tune", "a" * 64).sizes
    assert [(size.kind, len(size.probabilities)) for size in sizes] == [("real", 30), ("fake", 30)]


def test_an_estimate_is_formatted_with_its_interval():
    estimate = Estimate(0.5, 0.25, 0.75, 9)
    assert format_estimate(estimate) == format_estimate(estimate.__dict__) == "0.500 (0.250 to 0.750)"
    assert format_estimate(estimate, scale=100, digits=1) == "50.0 (25.0 to 75.0)"
    assert format_estimate(None) == "-"


def test_a_header_has_a_rule_of_the_same_width():
    assert format_header("a", "b").splitlines() == ["| a | b |", "| --- | --- |"]


def test_a_combined_model_shows_the_epochs_of_its_last_network_that_has_some():
    spec = ModelSpec("ensemble", FaceInput(96, 1.3), UNCALIBRATED, {"curve": [], "fit": 1, "tune": 2, "date": "today"})
    assert training_account(spec) is spec.training
    epochs = [{"epoch": 1}]
    members = [{"curve": epochs, "fit": 3, "tune": 4}, {"curve": [], "fit": 1, "tune": 2}]
    account = training_account(replace(spec, training={**spec.training, "members": members}))
    assert (account["curve"], account["fit"], account["tune"], account["date"]) == (epochs, 3, 4, "today")
