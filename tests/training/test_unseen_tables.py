"""Figures of scores made by hand, of families and sources that a network did not learn from."""

import numpy as np
import pytest
from score_rows import make_row

from detector.media.degradations import TIERS
from detector.metrics import bootstrap, roc_auc
from detector.models.calibration import Calibration
from detector.results import Verdict
from training import thresholds, unseen_tables
from training.calibrating import UNCALIBRATED
from training.tables import decide_row
from training.unseen_tables import (
    GroupResamples,
    UnseenAccount,
    UnseenTable,
    calibration_within_limits,
    measure_trade_off,
    measure_unseen,
    print_unseen,
)

CALIBRATION = Calibration(1.0, 0.0, 0.3, 0.8)


def unseen_row(label, logit, number, **others):
    """Return a row in a group of its own, of the one family or source of fold 0."""
    row = make_row(label, "x", logit, sharpness=0.0, reasons="between_thresholds")
    names = {
        "kind": ("photograph", "swap")[label],
        "family": ("shop", "ghost")[label],
        "source": ("shop", "ghost")[label],
    }
    return {**row, **names, "fold": 0, "group": f"group{number}", **others}


def draw_rows(*, families=(("swap", "ghost", 0, 40, 1.0),), reals=((0, 60),), seed=0):
    """Draw rows: families as (kind, family, fold, n, mean logit), and real pictures as (fold, n) with mean 0."""
    rng, rows = np.random.default_rng(seed), []
    for kind, family, fold, n, level in families:
        own = {"kind": kind, "family": family, "source": family, "fold": fold}
        rows += [unseen_row(1, rng.normal(level), f"{family}{i // 2}", **own) for i in range(n)]
    for fold, n in reals:
        own = {"family": "shop", "source": f"shop{fold}", "fold": fold}
        rows += [unseen_row(0, rng.normal(), f"shop{fold} {i // 2}", **own) for i in range(n)]
    return rows


def in_every_tier(rows, *, harm=0.0):
    """Return rows of all degradations; a blur lowers the logits of fakes by `harm`."""
    return [
        {**row, "delivery": tier, "logit": row["logit"] - harm * row["label"] * (tier == "blur1")}
        for row in rows
        for tier in TIERS
    ]


def table_of(rows):
    groups, folds = (np.array([row[name] for row in rows]) for name in ("group", "fold"))
    return UnseenTable([decide_row(row, CALIBRATION) for row in rows], GroupResamples(groups, folds))


def measure(rows, calibration=CALIBRATION):
    return measure_unseen(in_every_tier(rows), UnseenAccount({"network": "cnn"}, calibration))


def test_a_family_is_compared_with_the_real_pictures_of_its_fold_alone():
    families = (("swap", "ghost", 0, 40, 1.0), ("gan", "style", 1, 30, 0.5))
    rows = draw_rows(families=families, reals=((0, 60), (1, 50)))
    moved = [{**row, "logit": row["logit"] + 9 * row["fold"]} for row in rows]  # another level in each fold
    figures = {row["family"]: row for row in measure(moved)["families"]}
    for _, family, fold, n, _ in families:
        own = [row for row in rows if row["family"] == family or (row["fold"] == fold and row["label"] == 0)]
        labels, logits, groups = (np.array([row[name] for row in own]) for name in ("label", "logit", "group"))
        expected = bootstrap(roc_auc, groups, labels, logits)
        found = figures[family]["auc"]
        assert found["value"] == pytest.approx(expected.value)
        assert found["low"] == pytest.approx(expected.low, abs=0.03)
        assert found["high"] == pytest.approx(expected.high, abs=0.03)
        assert (figures[family]["n"], found["n"], figures[family]["fold"]) == (n, len(own), fold)


def test_equal_logits_count_half():
    rows = [unseen_row(label, logit, n) for n, (label, logit) in enumerate([(1, 2), (1, 1), (0, 1), (0, 0), (0, 2)])]
    won, pairs = table_of(rows).count_pairs(np.array([0, 1]), np.array([2, 3, 4]))
    assert (won[0], pairs[0]) == (2.5 + 1.5, 6)


def test_matched_auc_is_chance_where_sharpness_alone_explains_the_label():
    rng, rows = np.random.default_rng(0), []
    for number in range(3000):
        level = number % 3  # of sharpness; fakes are sharper than reals, and the network sees nothing else
        label = int(rng.random() < (0.1, 0.5, 0.9)[level])
        rows.append(unseen_row(label, 3 * level + rng.normal(), number, sharpness=float(level)))
    figures = measure(rows)["families"][0]
    assert figures["auc"]["value"] > 0.85
    assert figures["auc_matched"]["low"] < 0.5 < figures["auc_matched"]["high"]
    assert figures["auc_matched"]["value"] == pytest.approx(0.5, abs=0.03)


def test_matched_auc_is_chance_where_the_size_of_the_face_alone_explains_the_label():
    rng, rows = np.random.default_rng(1), []
    for number in range(3000):
        size = number % 3
        label = int(rng.random() < (0.9, 0.5, 0.1)[size])
        rows.append(unseen_row(label, rng.normal() - 3 * size, number, face_px=100 * (1 + size)))
    figures = measure(rows)["families"][0]
    assert figures["auc"]["value"] > 0.85 and figures["auc_matched"]["value"] == pytest.approx(0.5, abs=0.03)


def test_matching_keeps_what_sharpness_does_not_explain():
    rng = np.random.default_rng(2)
    rows = [unseen_row(n % 2, rng.normal(1.5 * (n % 2)), n, sharpness=rng.normal()) for n in range(2000)]
    figures = measure(rows)["families"][0]
    assert figures["auc_matched"]["value"] == pytest.approx(figures["auc"]["value"], abs=0.01)


def test_a_face_without_sharpness_is_counted():
    rows = [unseen_row(n % 2, n, n, sharpness=None if n < 20 else float(n)) for n in range(60)]
    (figures,) = measure(rows)["families"]
    assert figures["auc_matched"] is not None
    rows = [{**row, "sharpness": None} for row in rows]
    assert measure(rows)["families"][0]["auc_matched"]["value"] == pytest.approx(figures["auc"]["value"])


def test_means_weigh_families_equally_and_omit_small_ones():
    families = (
        ("swap", "ghost", 0, 200, 2.0),
        ("swap", "roop", 0, 20, 0.0),
        ("swap", "few", 0, 9, 9.0),
        ("gan", "style", 1, 30, 1.0),
        ("gan", "no reals", 2, 30, 1.0),
    )
    metrics = measure(draw_rows(families=families, reals=((0, 60), (1, 50))))
    auc = {row["family"]: row["auc"] and row["auc"]["value"] for row in metrics["families"]}
    assert auc["no reals"] is None and auc["few"] > 0.99
    ghost, roop, style = (auc[name] for name in ("ghost", "roop", "style"))
    assert metrics["macro_family"]["value"] == pytest.approx((ghost + roop + style) / 3)
    assert metrics["macro_kind"]["value"] == pytest.approx(((ghost + roop) / 2 + style) / 2)
    assert metrics["macro_family"]["n"] == 3 and metrics["macro_kind"]["n"] == 2
    swap = {row["kind"]: row for row in metrics["kinds"]}["swap"]
    assert swap["families"] == 2 and swap["auc"]["value"] == pytest.approx((ghost + roop) / 2)
    for name in ("macro_family", "macro_family_matched", "macro_kind", "macro_kind_matched"):
        assert metrics[name]["low"] < metrics[name]["value"] < metrics[name]["high"]


def test_groups_are_drawn_within_their_fold():
    folds = np.repeat([0, 1, 2], [8, 3, 5])
    groups = np.array([f"{fold} {place // 2}" for place, fold in enumerate(folds)])
    weights = GroupResamples(groups, folds).weights(groups)
    assert (weights[:, 0] == 1).all() and weights.shape == (16, 1 + unseen_tables.UNSEEN_RESAMPLES)
    for fold in range(3):
        _, first = np.unique(groups[folds == fold], return_index=True)
        assert (weights[folds == fold][first].sum(0) == len(first)).all()
    assert (weights[0] == weights[1]).all() and weights[:, 1:].std() > 0.5


def test_perfect_separation_keeps_an_interval_with_a_width():
    rows = [unseen_row(label, 9 * label, 2 * n + label) for n in range(12) for label in (0, 1)]
    auc = measure(rows)["families"][0]["auc"]
    assert auc["value"] == auc["high"] == 1 and 0.6 < auc["low"] < 0.9


def test_rates_come_from_the_logits_and_the_calibration():
    rows = [unseen_row(0, logit, n, verdict="real") for n, logit in enumerate([-3, -3, 0, 3, 3])]
    rows += [unseen_row(1, logit, 5 + n, verdict="deepfake") for n, logit in enumerate([-3, 0, 0, 3])]
    rows[3]["reasons"] = "no_face"  # withholds the verdict, whatever the score
    metrics = measure(rows)
    (source,), (family,) = metrics["real_sources"], metrics["families"]
    assert (source["source"], source["kind"], source["fold"], source["n"]) == ("shop", "photograph", 0, 5)
    assert source["false_alarms"]["value"] == 1 / 5 and source["inconclusive"]["value"] == 2 / 5
    assert family["called_real"]["value"] == 1 / 4 and family["inconclusive"]["value"] == 2 / 4
    undecided = measure(rows, UNCALIBRATED)
    assert undecided["families"][0]["inconclusive"]["value"] == 1
    assert metrics["tiers"]["stored"]["inconclusive"]["value"] == pytest.approx(4 / 9)
    assert metrics["n"] == 9


def test_each_degradation_has_its_figures():
    rows = draw_rows(families=(("swap", "ghost", 0, 400, 2.0),), reals=((0, 400),))
    metrics = measure_unseen(in_every_tier(rows, harm=2.0), UnseenAccount({}, CALIBRATION))
    tiers = metrics["tiers"]
    assert list(tiers) == list(TIERS)
    assert tiers["stored"]["macro_family"] == metrics["macro_family"]
    assert tiers["blur1"]["macro_family"]["value"] == pytest.approx(0.5, abs=0.05)
    assert tiers["blur1"]["found"]["value"] < tiers["stored"]["found"]["value"] - 0.1
    assert tiers["blur1"]["called_real"]["value"] > tiers["jpeg50"]["called_real"]["value"] + 0.1
    assert tiers["blur1"]["false_alarms"] == tiers["stored"]["false_alarms"]


def rates_under(calibration, rows):
    decided = [decide_row(row, calibration) for row in rows]
    found = {}
    for name, label, verdict in (("alarms", 0, Verdict.DEEPFAKE), ("called_real", 1, Verdict.REAL)):
        found[name] = max(
            np.mean([row["verdict"] == verdict for row in decided if (row["label"], row["delivery"]) == (label, tier)])
            for tier in TIERS
        )
    return found


def test_thresholds_keep_the_limits_under_the_worst_degradation_and_in_each_source(monkeypatch):
    rows = draw_rows(families=(("swap", "ghost", 0, 500, 1.0),), reals=((0, 500), (1, 50)))
    rows = in_every_tier([{**row, "logit": row["logit"] + 2 * (row["source"] == "shop1")} for row in rows], harm=1.0)
    found = calibration_within_limits(rows)
    rates = rates_under(found, rows)
    assert rates["called_real"] == pytest.approx(0.12, abs=0.003) and rates["alarms"] <= 0.02
    verdicts = [decide_row(row, found)["verdict"] for row in rows if row["source"] == "shop1"]
    assert verdicts.count(Verdict.DEEPFAKE) / len(verdicts) == pytest.approx(0.06)
    monkeypatch.setattr(thresholds, "MIN_SOURCE", 51)  # too few to use
    assert calibration_within_limits(rows).threshold_fake < found.threshold_fake


def test_scores_without_a_label_leave_everything_inconclusive():
    rows = in_every_tier([unseen_row(0, 1.0, n) for n in range(4)])
    assert calibration_within_limits(rows) == UNCALIBRATED


def test_the_trade_off_shows_what_stays_inconclusive():
    rows = in_every_tier(draw_rows(families=(("swap", "ghost", 0, 500, 2.0),), reals=((0, 500),)))
    excluded = [{**row, "reasons": "no_face", "group": row["group"] + "x"} for row in rows]
    points = measure_trade_off(rows)
    assert [point["called_real"] for point in points] == [0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3]
    shares = [point["inconclusive"] for point in points]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1] + 0.2
    withheld = [point["inconclusive"] for point in measure_trade_off(rows + excluded)]
    np.testing.assert_allclose(withheld, (np.array(shares) + 1) / 2)


def test_the_tables_are_printed(capsys):
    families = (("swap", "ghost", 0, 40, 1.0), ("gan", "style", 2, 12, 1.0))  # the second has no reals in its fold
    print_unseen(measure(draw_rows(families=families)))
    printed = capsys.readouterr().out
    assert "100 pictures" not in printed and "112 pictures" in printed
    for words in (
        "| ghost | swap | 0 | 40 | 0.",
        "| style | gan | 2 | 12 | - | - |",
        "| shop0 | photograph | 0 | 60 |",
    ):
        assert words in printed
    assert "| blur1 | 0." in printed and "| 12.0 | 2.0 | " in printed
