import csv

import pytest

from training import comparison as compare
from training import fitting as train
from training.networks import NETWORKS

SETTINGS = train.TrainingSettings(
    "", "", "cnn", "none", "", 64, epochs=2, epoch_samples=24, batch=8, self_blend=0.5, seed=1
)
ESTIMATE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}


def test_the_students_runs_make_no_fakes_and_ours_once_does(tmp_path, monkeypatch, capsys):
    """The table says of each run what it was; nothing is trained."""
    asked = {}

    def judge(settings, run):
        asked[run.name] = settings
        return {**dict.fromkeys(compare.FIGURES, ESTIMATE), "network_ms": 4.04}

    for name in ("faces.csv", "body.weights.h5"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(compare, "judge", judge)
    compare.main(
        ["--manifest", str(tmp_path / "faces.csv"), "--body", str(tmp_path / "body.weights.h5"),
         "--out", str(tmp_path / "table.csv")]
    )  # fmt: skip
    assert [s.network for s in asked.values()] == ["cnn", "vgg19", "xception", "mobilenet", "mobilenet"]
    assert [s.self_blend + s.reconstruct > 0 for s in asked.values()] == [False] * 4 + [True]
    assert [s.weights == "none" for s in asked.values()] == [True] * 3 + [False] * 2
    students = list(asked.values())[:3]
    assert all(s.weight_decay == s.label_smoothing == 0 for s in students) and students[0].dropout == 0.5
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (len(compare.FIGURES) + 1) and rows[-1]["value"] == "4.0"
    assert "| VGG19 | 1,280 | 0.500 (0.250 to 0.750) |" in capsys.readouterr().out


def test_every_run_is_of_settings_that_train_knows():
    for changes in compare.RUNS.values():
        assert set(changes) <= set(vars(SETTINGS)) and changes["network"] in NETWORKS
    assert compare.RUNS["three convolutions"]["input_size_px"] == 128


@pytest.mark.parametrize("option", [("--weights", "mine.h5"), ("--only", "resnet")])
def test_what_it_does_not_know_is_refused(option, tmp_path):
    with pytest.raises(SystemExit):
        compare.main(["--manifest", str(tmp_path), "--body", "none", *option])
