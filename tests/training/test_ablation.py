import csv
from dataclasses import fields, replace

import numpy as np
import pytest

from detector.media.degradations import TIERS
from training import ablation as ablate
from training import fitting as train

SETTINGS = train.TrainingSettings(
    "", "", "cnn", "none", "", 64, epochs=1, epoch_samples=8, batch=8, self_blend=0.5, seed=1
)


def drawn_rows(*, harm=0.0):
    """Scores of a run that tells diffusion from reals and knows nothing of swaps; a blur makes it worse."""
    rng, rows = np.random.default_rng(0), []
    kinds = {"camera": (0, 0.0), "SDXL": (1, 6.0), "face-swap": (1, 0.0), "stylegan2": (1, -4.0)}
    for index in range(400):
        generator, (label, level) = list(kinds.items())[index % 4]
        logit = rng.normal(level)
        for tier in TIERS:
            rows.append(
                {"label": label, "source": "s", "generator": generator, "group": str(index), "delivery": tier,
                 "logit": logit - harm * label * (tier == "blur1"), "probability": 0.5, "verdict": "real",
                 "faces": 1, "face_px": 100}
            )  # fmt: skip
    return rows


def test_each_kind_of_fakes_has_a_figure_of_its_own():
    figures = {name: found["value"] for name, found in ablate.measure_run(drawn_rows()).items()}
    assert figures["diffusion"] > 0.99 and figures["StyleGAN"] < 0.01
    assert 0.4 < figures["swaps"] < 0.6
    assert all(
        found["n"] == 200 for name, found in ablate.measure_run(drawn_rows()).items() if not name.startswith("all")
    )


def test_the_delivery_that_costs_most_counts():
    whole, harmed = (ablate.measure_run(drawn_rows(harm=harm))["all, worst delivery"]["value"] for harm in (0.0, 3.0))
    assert harmed < whole - 0.1


@pytest.mark.parametrize("changes", [changes for changes in ablate.RUNS.values() if changes], ids=str)
def test_each_run_changes_what_it_says(changes):
    settings = replace(SETTINGS, reconstruct=0.2, leave_out=ablate.LEFT_OUT)
    changed = {
        f.name for f in fields(settings) if getattr(settings, f.name) != getattr(replace(settings, **changes), f.name)
    }
    assert changed == set(changes)


def test_figures_are_written_a_row_each(tmp_path):
    figures = {name: ablate.measure_run(drawn_rows()) for name in ("whole", "without damage")}
    ablate.write_figures(figures, tmp_path / "ablations.csv")
    with open(tmp_path / "ablations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["whole"] * 4 + ["without damage"] * 4
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) and int(row["n"]) for row in rows)
