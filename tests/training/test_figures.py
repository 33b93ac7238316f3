"""Plots of scores made by hand: their content, and the same bytes every time."""

import csv
import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from detector import metrics as estimates
from detector.media.degradations import TIERS
from detector.media.images import read_image
from detector.metrics import roc_auc
from detector.models.calibration import Calibration
from detector.verdicts import classify
from scripts import plot as command
from training import figures, plot_values
from training.scoring import write_scores
from training.tables import measure_families, measure_rows, measure_sources
from webapp.plots import PLOTS

pytestmark = pytest.mark.slow

LINE = Calibration(1.0, 0.0, 0.3, 0.8)
NAMES = (
    "acc",
    "roc",
    "auc",
    "cm",
    "roc_sources",
    "calibration",
    "histogram",
    "errors_size",
    "errors_quality",
    "deliveries",
)
ABLATIONS = """name,figure,value,low,high,n
whole,AUC on tune,0.9,0.88,0.92,400
without blends,AUC on tune,0.91,0.89,0.93,400
whole,AUC of unseen swaps,0.7,0.65,0.75,90
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with scores.csv and metrics.json of 160 pictures, written without a network."""
    folder, rng = tmp_path_factory.mktemp("scores"), np.random.default_rng(0)
    rows = []
    for number in range(160):
        label, logit = number % 2, float(rng.normal(2 * (number % 2) - 1, 1.5))
        found = {"faces": 1, "face_px": 40 + number} if number % 10 else {"faces": 0, "face_px": 0}
        for degradation in TIERS:
            probability = LINE.probability(logit)
            row = {
                "path": f"{number}.jpg",
                "label": label,
                "source": f"{'rf'[label]}{number % 3}",
                "group": f"g{number}",
            }
            row |= {"generator": ("face-swap", "stylegan2")[number % 3 > 0] if label else "camera", "reasons": ""}
            row |= {"delivery": degradation, "logit": logit, "probability": probability} | found
            row |= {"verdict": str(classify(probability, LINE)), "width_px": 300, "height_px": 300}
            rows.append(row | {"jpeg_quality": (75, 90, None)[number % 3]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 50)
        stored = [row for row in rows if row["delivery"] == "stored"]
        counts = Counter((row["label"], row["verdict"]) for row in stored)
        metrics = {
            "model": {"threshold_real": LINE.threshold_real, "threshold_fake": LINE.threshold_fake},
            "overall": {"n": len(stored), **measure_rows(stored)},
            "confusion": {
                kind: {v: counts[label, v] for v in figures.VERDICTS} for label, kind in enumerate(("real", "fake"))
            },
            "families": measure_families(stored),
            "sources": measure_sources(stored),
            "deliveries": {d: measure_rows([row for row in rows if row["delivery"] == d]) for d in TIERS},
            "training": {"curve": [{"epoch": 1, "train_accuracy": 0.5, "tune_accuracy": 0.6}]},
        }
    write_scores(rows, folder / "scores.csv")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    figures.plt.close("all")


@pytest.fixture
def scores(folder):
    return figures.read_columns(folder / "scores.csv", "stored")


@pytest.fixture
def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def dots(axes):
    """Return the positions and heights of the dots in drawing order."""
    lines = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines]


def test_plots_need_only_the_files_and_have_the_same_bytes_every_time(folder):
    digests = []
    for _ in range(2):
        command.main(["--folder", str(folder)])
        drawn = [(folder / f"{name}.png").read_bytes() for name in NAMES]
        digests.append([hashlib.sha256(data).digest() for data in drawn])
    assert digests[0] == digests[1]
    assert all(min(read_image(data).shape[:2]) > 300 for data in drawn)
    assert not (folder / "ablations.png").exists()
    assert {plot.name for plot in PLOTS} == {*NAMES, "ablations", "trade_off"}
    assert not (folder / "trade_off.png").exists()


def test_the_numbers_for_the_pages_are_those_of_the_plots(metrics, scores):
    values = json.loads(json.dumps(plot_values.page_values(metrics, scores, [])))
    assert [row["name"] for row in values["roc"]] == ["face swaps", "generated faces", "all fakes"]
    alarms, hits = zip(*values["roc"][-1]["curve"], strict=True)
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(hits, alarms) == pytest.approx(metrics["overall"]["auc"]["value"], abs=0.005)
    assert sum(values["calibration"]["counts"]) == 160 and values["histogram"]["n"] == {"real": 80, "fake": 80}
    assert sum(values["histogram"]["bars"]["fake"]) == pytest.approx(1)
    assert sum(rates["inconclusive"]["n"] for rates in values["size_rates"].values()) == 144


def test_ablations_are_compared_with_the_first_run():
    figure = figures.plot_ablations(list(csv.DictReader(ABLATIONS.splitlines())))
    tune, swaps = figure.axes
    assert [label.get_text() for label in tune.get_yticklabels()] == ["without blends", "whole"]
    assert dots(tune) == [(0.91, 0), (0.9, 1)] and dots(swaps) == [(0.7, 1)]
    assert list(tune.lines[0].get_xdata()) == [0.9, 0.9] and tune.get_xlabel() == "AUC on tune\nn 400"


def test_ablations_are_drawn_if_present(folder, tmp_path):
    for name in ("scores.csv", "metrics.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "ablations.csv").write_text(ABLATIONS)
    command.main(["--folder", str(tmp_path)])
    assert (tmp_path / "ablations.png").is_file()


def test_the_trade_off_has_a_line_for_each_limit_of_false_alarms_and_a_ring_for_the_one_in_use():
    points = [
        {"called_real": called_real, "false_alarms": limit, "inconclusive": 0.9 - 3 * called_real - 5 * limit}
        for limit in (0.02, 0.01)
        for called_real in (0.12, 0.04)
    ]
    axes = figures.plot_trade_off(points).axes[0]
    one, two, ring = axes.lines
    assert one.get_label().startswith("at most 1.0%") and list(two.get_xdata()) == [0.04, 0.12]
    assert list(two.get_ydata()) == pytest.approx([0.68, 0.44]) and ring.get_label().endswith(": 44.0%")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((0.12, 0.44))


def test_the_trade_off_is_drawn_if_kinds_left_out_were_measured(folder, tmp_path):
    for name in ("scores.csv", "metrics.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "unseen_metrics.json").write_text(json.dumps({"trade_off": []}))
    command.main(["--folder", str(tmp_path)])
    assert not (tmp_path / "trade_off.png").exists()
    points = [{"called_real": 0.12, "false_alarms": 0.02, "inconclusive": 0.5}]
    (tmp_path / "unseen_metrics.json").write_text(json.dumps({"trade_off": points}))
    command.main(["--folder", str(tmp_path)])
    assert (tmp_path / "trade_off.png").is_file()


def test_the_roc_curve_has_one_line_for_swaps_and_one_for_generated_faces(metrics, scores):
    axes = figures.plot_roc(metrics, scores).axes[0]
    curves = {line.get_label(): line for line in axes.lines if " AUC " in line.get_label()}
    assert [name.split(" (")[0] for name in curves] == ["face swaps", "generated faces", "all fakes"]
    swaps = (scores["label"] == 0) | (scores["generator"] == "face-swap")
    line = curves[next(iter(curves))]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert area == pytest.approx(roc_auc(scores["label"][swaps], scores["logit"][swaps]))


def test_calibration_counts_every_picture_in_its_bin(metrics, scores):
    axes, counts = figures.plot_calibration(metrics, scores).axes
    heights = [bar.get_height() for bar in counts.patches]
    assert sum(heights) == 160 and len(heights) == 15
    last = scores["probability"] >= 14 / 15
    assert heights[-1] == last.sum()
    assert dots(axes)[-1] == pytest.approx((scores["probability"][last].mean(), scores["label"][last].mean()))


def test_the_histogram_counts_every_picture_including_the_most_extreme(metrics, scores):
    scores["probability"][:2] = 0, 1
    for axes in figures.plot_histogram(metrics, scores).axes:
        assert sum(bar.get_height() for bar in axes.containers[0]) == pytest.approx(1)


def test_error_rates_count_the_pictures_of_that_size(scores):
    axes = figures.plot_size_errors(scores).axes[0]
    assert "16 pictures without a face left out" in axes.get_xlabel()
    subsets = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert len(subsets) == plot_values.RATE_BINS
    low, high = map(int, subsets[0][0].split(" to "))
    chosen = (scores["face_px"] >= low) & (scores["face_px"] <= high)
    real, fake = (chosen & (scores["label"] == label) for label in (0, 1))
    assert subsets[0][1:] == [f"{real.sum()} real", f"{fake.sum()} fake"]
    heights = [height for place, height in dots(axes) if place < 0.5]
    assert heights == pytest.approx([
        np.mean(scores["verdict"][real] == "deepfake"),
        np.mean(scores["verdict"][fake] == "real"),
        np.mean(scores["verdict"][chosen] == "inconclusive"),
    ])  # fmt: skip


def test_qualities_and_other_formats_have_bins_of_their_own(scores):
    axes = figures.plot_quality_errors(scores).axes[0]
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == ["75", "90", "not JPEG"]


def test_bins_keep_equal_numbers_together_and_leave_none_out():
    values = np.array([*[75.0] * 60, *range(76, 96), np.nan])
    bins = plot_values.bin_members(values)
    assert all(np.isclose(np.sum(list(bins.values()), axis=0)[:-1], 1)) and not any(m[-1] for m in bins.values())
    assert bins["75"].sum() == 60 and len(bins) > 2


def test_missing_scores_are_reported_with_the_command_that_writes_them(tmp_path):
    with pytest.raises(SystemExit, match=r"python scripts/evaluate\.py"):
        command.main(["--folder", str(tmp_path)])


def test_scores_of_an_older_format_are_refused_with_a_sentence(folder, tmp_path):
    (tmp_path / "scores.csv").write_text("path,label,delivery\na.jpg,1,stored\n")
    (tmp_path / "metrics.json").write_text(json.dumps({"overall": {}}))
    with pytest.raises(SystemExit, match="older format"):
        command.main(["--folder", str(tmp_path)])
