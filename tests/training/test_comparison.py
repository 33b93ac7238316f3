import csv

import pytest

from scripts import compare as command
from training import comparison
from training.networks import NETWORKS
from training.settings import TrainingSettings

SETTINGS = TrainingSettings("", "", "cnn", "none", "", 64, epochs=2, epoch_samples=24, batch=8, self_blend=0.5, seed=1)
ESTIMATE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}


def test_only_the_last_run_makes_fakes_and_only_ours_start_from_the_body(tmp_path, monkeypatch, capsys):
    requested = {}

    def score_network(settings, run):
        requested[run.name] = settings
        return {**dict.fromkeys(comparison.COMPARED_FIGURES, ESTIMATE), "network_ms": 4.04}

    for name in ("faces.csv", "body.weights.h5"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(comparison, "score_network", score_network)
    command.main(
        ["--manifest", str(tmp_path / "faces.csv"), "--body", str(tmp_path / "body.weights.h5"),
         "--out", str(tmp_path / "table.csv")]
    )  # fmt: skip
    assert [s.network for s in requested.values()] == ["cnn", "vgg19", "xception", "mobilenet", "mobilenet"]
    assert [s.self_blend + s.reconstruct > 0 for s in requested.values()] == [False] * 4 + [True]
    assert [bool(s.autoencoders_sha256) for s in requested.values()] == [False] * 4 + [True]
    assert [s.weights == "none" for s in requested.values()] == [True] * 3 + [False] * 2
    students = list(requested.values())[:3]
    assert all(s.weight_decay == s.label_smoothing == 0 for s in students) and students[0].dropout == 0.5
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (len(comparison.COMPARED_FIGURES) + 1) and rows[-1]["value"] == "4.0"
    assert "| VGG19 | 1,280 | 0.500 (0.250 to 0.750) |" in capsys.readouterr().out


def test_every_run_names_known_settings_and_networks():
    for changes in comparison.COMPARISON_RUNS.values():
        assert set(changes) <= set(vars(SETTINGS)) and changes["network"] in NETWORKS
    assert comparison.COMPARISON_RUNS["three convolutions"]["input_size_px"] == 128


@pytest.mark.parametrize("option", [("--weights", "mine.h5"), ("--only", "resnet")])
def test_unknown_weights_and_runs_are_refused(option, tmp_path):
    with pytest.raises(SystemExit):
        command.main(["--manifest", str(tmp_path), "--body", "none", *option])
