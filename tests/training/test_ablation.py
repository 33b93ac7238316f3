import csv
from dataclasses import fields, replace

import numpy as np
import pytest

from detector import metrics as estimates
from detector.media.degradations import TIERS
from scripts import ablate as command
from training import ablation
from training.settings import TrainingSettings

SETTINGS = TrainingSettings("", "", "cnn", "none", "", 64, epochs=1, epoch_samples=8, batch=8, self_blend=0.5, seed=1)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 50)
        yield


def draw_rows(*, harm=0.0):
    """Scores of a run that separates diffusion from reals and does not detect swaps; a blur lowers fakes by `harm`."""
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
    figures = ablation.measure_run(draw_rows())
    assert figures["diffusion"]["value"] > 0.99 and figures["StyleGAN"]["value"] < 0.01
    assert 0.4 < figures["swaps"]["value"] < 0.6
    assert {name: found["n"] for name, found in figures.items() if not name.startswith("all")} == dict.fromkeys(
        ["diffusion", "StyleGAN", "swaps"], 200
    )


def test_the_worst_degradation_counts():
    whole, harmed = (ablation.measure_run(draw_rows(harm=harm))["all, worst delivery"]["value"] for harm in (0.0, 3.0))
    assert harmed < whole - 0.1


@pytest.mark.parametrize("changes", [changes for changes in ablation.ABLATION_RUNS.values() if changes], ids=str)
def test_each_run_changes_the_settings_it_names(changes):
    settings = replace(SETTINGS, reconstruct=0.2, leave_out=ablation.GENERATORS_LEFT_OUT)
    changed = {
        f.name for f in fields(settings) if getattr(settings, f.name) != getattr(replace(settings, **changes), f.name)
    }
    assert changed == set(changes)


def test_figures_are_written_a_row_each(tmp_path):
    figures = {name: ablation.measure_run(draw_rows()) for name in ("whole", "without damage")}
    ablation.write_figures(figures, tmp_path / "ablations.csv")
    with open(tmp_path / "ablations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["whole"] * 4 + ["without damage"] * 4
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) and int(row["n"]) for row in rows)


def test_the_command_trains_and_measures_the_requested_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "faces.csv").write_bytes(b"x")
    trained = {}

    def train_into(run, settings):
        trained[run.name] = settings
        return run / "model.h5"

    monkeypatch.setattr(ablation, "train_into", train_into)
    monkeypatch.setattr(ablation, "score_calibration_split", lambda model, settings: draw_rows())
    files = ["--manifest", str(tmp_path / "faces.csv"), "--out", str(tmp_path / "ablations.csv")]
    command.main([*files, "--weights", "none", "--only", "at 96 pixels", "with swaps shown"])
    assert {name: (s.input_size_px, s.leave_out) for name, s in trained.items()} == {
        "at_96_pixels": (96, ("face-swap", "stylegan")), "with_swaps_shown": (128, ("stylegan",))
    }  # fmt: skip
    assert "| with swaps shown | swaps: 0." in capsys.readouterr().out
    assert (tmp_path / "ablations.csv").read_text().count("at 96 pixels,") == 4


def test_an_unknown_run_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--manifest", "x", "--weights", "none", "--only", "at 97 pixels"])
    assert "no run 'at 97 pixels'" in capsys.readouterr().err


def test_a_whole_model_is_no_start_for_runs_that_leave_something_out(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--manifest", "x", "--weights", "model.h5"])
    assert stop.value.code == 2 and "leaves something out" in " ".join(capsys.readouterr().err.split())
