"""The charts of the performance page: positions, ends of axes, and colours that stand out in both themes."""

import re

import pytest
from project import ROOT

from webapp.drawings import bins, charts, curves, intervals, verdict_counts


def estimate(value, n=100):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": n}


def roc_values(*names):
    rows = [{"name": name, "n": 9, "auc": estimate(0.9), "curve": [[0, 0], [0, 0.5], [1, 1]]} for name in names]
    return {"roc": rows, "roc_points": {"called deepfake": [0.1, 0.6], "not called real": [0.4, 0.9]}}


def test_a_roc_curve_rises_from_the_lower_left_to_the_upper_right():
    (panel,) = curves.roc(roc_values("face swaps", "all fakes")).panels
    assert panel.lines[1].points == "0,100 0,50.0 100,0"
    assert [line.kind for line in panel.lines] == ["series-1", "ink"]
    assert [(dot.kind, dot.x, dot.y) for dot in panel.dots] == [("deepfake", 10, 40), ("real", 40, 10)]
    assert "all fakes AUC 0.900" in panel.label and panel.is_square


def test_false_alarms_are_logarithmic_for_each_source():
    rows = roc_values("camera")["roc"]
    upper, lower = curves.source_roc({"roc_sources": {"fake": rows, "real": rows}}).panels
    assert [tick.text for tick in upper.x_ticks] == ["0.1%", "1%", "10%", "100%"] and upper.x_ticks[-1].x == 100
    assert upper.lines[0].points.endswith(" 100.0,0") and lower.lines[0].kind == "series-2"


def test_the_trade_off_has_a_line_for_each_limit():
    points = [
        {"called_real": real, "false_alarms": alarms, "inconclusive": 0.5}
        for real in (0.3, 0.1)
        for alarms in (0.02, 0.01)
    ]
    chart = curves.trade_off(points)
    assert len(chart.panels[0].lines) == 2 and chart.legend[0][1].startswith("at most 1.0%")
    assert chart.panels[0].lines[0].points == "33.33,50.0 100.0,50.0"


def test_cells_of_the_confusion_matrix_are_as_dark_as_their_share():
    counts = {"real": {"real": 3, "inconclusive": 1}, "fake": {"deepfake": 2}}
    (panel,) = verdict_counts.confusion({"confusion": counts}).panels
    shares = [round(area.opacity / verdict_counts.DARKEST, 2) for area in panel.areas]
    assert shares == pytest.approx([0.75, 0.25, 0, 0, 0, 1], abs=0.01)
    assert [text.text for text in panel.texts[:4]] == ["3", "75.0%", "1", "25.0%"]
    assert "4 real pictures: 3 called real" in panel.label


def test_no_number_lies_on_a_rail():
    rates = {"a": {"false_alarms": estimate(0.1), "misses": estimate(0.2), "inconclusive": estimate(0.3)}, "b": {}}
    rates["b"] = {"false_alarms": estimate(0.4), "misses": None, "inconclusive": estimate(0.5)}
    (panel,) = intervals.error_rates(rates, "size").panels
    rails = sorted({span.y1 * panel.height / 100 for span in panel.spans if span.kind == "rail"})
    baselines = [text.y * panel.height / 100 + text.dy for text in panel.texts]
    assert len(rails) == 5 and [text.text for text in panel.texts] == ["a", "n 200", "b", "n 100"]
    for baseline in baselines:  # a text is 12 pixels high above its baseline, and reaches 4 below it
        assert not any(baseline - 12 < rail < baseline + 4 for rail in rails)


def test_bars_of_the_calibration_end_at_the_axis():
    plots = {"calibration": {"bins": [{"probability": 0.5, "fakes": estimate(0.5)}], "counts": [0, 4, 2]}}
    shares, numbers = bins.calibration(plots, {"overall": {"ece": estimate(0.1)}}).panels
    assert [(area.y, area.height) for area in numbers.areas] == [(100, 0), (0, 100), (50, 50)]
    assert (shares.dots[0].x, shares.dots[0].y) == (50, 50) and shares.spans[1].y1 == pytest.approx(60)


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1]), (0.05, 0.2, [0.05, 0.1, 0.15, 0.2])],
)
def test_axes_have_round_steps(low, high, steps):
    assert charts.round_steps(low, high) == pytest.approx(steps)


def relative_luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_data_colours_stand_out_in_both_themes(theme):
    """At least 3 to 1 on every ground, as WCAG 1.4.11 asks of graphics."""
    light, dark = (ROOT / "static" / "style.css").read_text().split("prefers-color-scheme: dark", 1)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if theme == "light" else dark))
    data = [f"series-{place + 1}" for place in range(charts.SERIES)]
    for name in (*data, "real", "deepfake", "inconclusive", "muted", "ink", "accent"):
        for ground in ("card", "paper", "sunken"):
            lighter, darker = sorted((relative_luminance(colours[x]) for x in (name, ground)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (name, ground)
