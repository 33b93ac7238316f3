"""The costs in docs/scale.md follow from the measured times in docs/figures.md."""

import re

from project import ROOT

CORES, PRICE = 2, 0.04


def test_the_costs_follow_from_the_measured_times():
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \|", (ROOT / "docs" / "figures.md").read_text(), flags=re.MULTILINE)
    measured_ms = {name: float(value) for name, value in rows}
    page = (ROOT / "docs" / "scale.md").read_text()
    picture_ms, clip_ms = measured_ms["whole"], measured_ms["video, 10 s of 1080p with sound"]
    pictures_h = 1_000_000 * picture_ms / 1e3 * CORES / 3600
    videos_h = 10_000 * 3600 / 10 * clip_ms / 1e3 * CORES / 3600
    assert f"| a million pictures | whole | {picture_ms} ms each | {pictures_h:.0f} |" in page
    assert f"| {clip_ms} ms for 10 s | {videos_h:,.0f} |" in page
    assert f"cost {pictures_h * PRICE:.2f} and the videos {videos_h * PRICE:.0f}" in page
