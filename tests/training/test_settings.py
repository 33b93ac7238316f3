from dataclasses import replace

import pytest

from detector.models.spec import file_sha256
from scripts.train import TrainCommand
from scripts.train import main as train
from training.runs import settings_text
from training.settings import (
    DEFAULT_SETTINGS,
    RECONSTRUCT,
    SELF_BLEND,
    TrainingSettings,
    autoencoders_sha256,
    complete_settings,
    parse_command,
)


def parse(*options):
    return parse_command(TrainCommand, options, "help", default=TrainCommand(DEFAULT_SETTINGS))


def test_the_command_line_gives_every_setting():
    options = (
        "--manifest m.csv --network cnn --weights none --size 64 --epochs 3 --epoch-samples 24 --batch 8 "
        "--self-blend 0.4 --reconstruct 0.2 --undamaged --unbalanced --leave-out face-swap StyleGAN "
        "--emphasis ffhq=2 my=set=0.5 --learning-rate 1e-4 --weight-decay 0 --label-smoothing 0 "
        "--dropout 0.5 --leave-out-fold 0 --seed 7 --run there --out model.h5"
    )
    command = parse(*options.split())
    assert command.settings == TrainingSettings(
        "m.csv",
        "",
        "cnn",
        "none",
        "",
        64,
        epochs=3,
        epoch_samples=24,
        batch=8,
        self_blend=0.4,
        seed=7,
        reconstruct=0.2,
        leave_out=("face-swap", "StyleGAN"),
        emphasis={"ffhq": 2.0, "my=set": 0.5},
        learning_rate=1e-4,
        weight_decay=0.0,
        label_smoothing=0.0,
        dropout=0.5,
        leave_out_fold=0,
    )
    assert command.undamaged and command.unbalanced
    assert (str(command.run), str(command.out)) == ("there", "model.h5")


def test_without_options_the_settings_are_the_small_defaults():
    command = parse()
    assert command == TrainCommand(DEFAULT_SETTINGS) and not command.undamaged and not command.unbalanced
    settings = command.settings
    assert (settings.self_blend, settings.reconstruct) == (SELF_BLEND, RECONSTRUCT)
    assert (settings.input_size_px, settings.epochs, settings.epoch_samples, settings.batch) == (192, 8, 640, 32)


def test_the_keys_of_a_run_folder_stay_as_they_were():
    """Earlier runs resume only if the same settings give the same text."""
    settings = TrainingSettings(
        "m", "1", "cnn", "none", "", 64, 2, 24, 8, 0.5, 1, leave_out=("a",), emphasis={"b": 2.0}
    )
    assert settings_text(settings) == (
        '{"manifest": "m", "manifest_sha256": "1", "network": "cnn", "weights": "none", "weights_sha256": "", '
        '"input_size_px": 64, "epochs": 2, "epoch_samples": 24, "batch": 8, "self_blend": 0.5, "seed": 1, '
        '"reconstruct": 0.0, "autoencoders_sha256": "", "damaged": true, "balanced": true, "leave_out": ["a"], '
        '"emphasis": {"b": 2.0}, "learning_rate": 0.001, "weight_decay": 0.0001, "label_smoothing": 0.05, '
        '"dropout": 0.2}'
    )


def test_settings_are_completed_with_hashes_and_full_paths(training_manifest, monkeypatch):
    monkeypatch.chdir(training_manifest.parent)
    relative = replace(DEFAULT_SETTINGS, manifest="manifest.csv", network="cnn", reconstruct=0.1)
    settings = complete_settings(relative)
    assert settings.manifest == str(training_manifest)
    assert settings.manifest_sha256 == file_sha256(training_manifest)
    assert (settings.weights, settings.weights_sha256) == ("none", "")  # the project's model is of another network
    assert settings.autoencoders_sha256 == autoencoders_sha256()
    assert complete_settings(replace(relative, reconstruct=0.0)).autoencoders_sha256 == ""


def test_a_run_that_leaves_something_out_does_not_start_from_the_project_model(training_manifest, monkeypatch):
    monkeypatch.setattr("training.settings._own_weights", lambda network: "imagenet")
    settings = replace(DEFAULT_SETTINGS, manifest=str(training_manifest))
    changes = ({}, {"leave_out": ("ours",)}, {"leave_out_fold": 0})
    found = [complete_settings(replace(settings, **change)).weights for change in changes]
    assert found == ["imagenet", "none", "none"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--emphasis", "ffhq"], "'ffhq' is not of the form SOURCE=FACTOR with a factor above 0"),
        (["--emphasis", "=2"], "SOURCE=FACTOR"),
        (["--emphasis", "ffhq=0"], "SOURCE=FACTOR"),
        (["--emphasis", "ffhq=much"], "SOURCE=FACTOR"),
        (["--batch", "7"], "half of a batch is real, half is fake"),
        (["--epochs", "0"], "'0' is not a whole number from 1 up"),
        (["--self-blend", "2"], "'2' is not a proportion from 0 to 1"),
        (["--self-blend", "0.8", "--reconstruct", "0.4"], "their sum is at most 1"),
        (["--leave-out", "ours", "--weights", "model.h5"], "weights that have not learned from what is left out"),
        (["--leave-out-fold", "0", "--weights", "model.h5"], "weights that have not learned from the fold"),
        (["--leave-out-fold", "-1"], "'-1' is not a whole number from 0 up"),
        (["--views", "0", "--last-frozen", "block4_add"], "--views 0 needs --head kinds"),
        (["--network", "resnet"], "'resnet' is not one of cnn, mobilenet, "),
    ],
)
def test_wrong_options_get_a_sentence(options, sentence, training_manifest, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        train(["--manifest", str(training_manifest), *options])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
