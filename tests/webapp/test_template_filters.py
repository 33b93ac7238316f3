import json

import pytest
from project import ROOT

from detector import Verdict
from detector.media.degradations import TIERS
from detector.results import ERROR_CLASS_BY_VERDICT
from webapp import template_filters


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_short_form(verdict):
    assert template_filters.short_verdict(str(verdict))


@pytest.mark.parametrize(("elapsed_ms", "words"), [(84.4, "84 ms"), (1234, "1.2 s")])
def test_durations(elapsed_ms, words):
    assert template_filters.format_duration(elapsed_ms) == words


def test_every_degradation_has_words():
    assert set(TIERS) == set(template_filters.DEGRADATION_NAMES)
    assert template_filters.degradation_name("another") == "another"


def test_every_kind_in_the_figures_has_words():
    figures = json.loads((ROOT / "visualizations" / "unseen_metrics.json").read_text())
    assert {row["kind"] for row in figures["families"] + figures["real_sources"]} <= set(template_filters.KIND_NAMES)
    assert template_filters.kind_name("another") == "another"


@pytest.mark.parametrize("verdict", Verdict)
def test_every_error_class_has_a_label(verdict):
    for kind in ERROR_CLASS_BY_VERDICT[verdict]:
        assert all(template_filters.tail_label(kind, media) for media in ("image", "audio"))
