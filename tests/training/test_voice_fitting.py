import csv
import json

import numpy as np
import pytest
from clips import make_sound
from voices import speak

from detector import metrics
from detector.models.spec import read_spec
from detector.results import ModelError
from detector.voices.detect import load_voice_detector
from detector.voices.features import ROWS, VOICE_INPUT
from scripts import evaluate_audio, train_audio
from training import voice_features, voice_fitting, voice_predictions, voice_scoring
from training.manifests import Example
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_features import STORED_VOICE, Variant, WindowFeatures
from training.voice_fitting import (
    DEGRADED_CENTRES,
    VoiceTrainingSettings,
    _draw_centres,
    _TrainingWindows,
    export_voice,
    fit_head_weights,
)
from training.voice_manifest import FAMILY, GENERATOR, SPEECH_MANIFEST_COLUMNS, family_of
from training.voice_networks import CENTRES, STATISTICS_SIZES, build_voice_network, set_head_weights
from training.voice_predictions import PREDICTIONS_FILE, read_fold_predictions

pytestmark = pytest.mark.slow

SIZE = sum(STATISTICS_SIZES)
GENERATORS = ("HGAN_V1", "tacotron2+hifigan", "wavenet")
SPEAKERS = 10


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Return a manifest with a real and a fake of each speaker, the fakes with a steady line; one speaker is in val."""
    folder, rows = tmp_path_factory.mktemp("speech"), []
    for speaker in range(SPEAKERS + 1):
        split = "val" if speaker == SPEAKERS else "train"
        for label in (0, 1):
            sound = speak(2.4, 2 * speaker + label, pitch_hz=90 + 12 * speaker, buzz=0.2 * label)
            (folder / f"{speaker}{label}.wav").write_bytes(make_sound(sound))
            generator = GENERATORS[speaker % 3] if label else "human"
            rows.append([f"{speaker}{label}.wav", label, split, "studio", generator, f"speaker{speaker}"])
    with open(folder / "speech.csv", "w", newline="") as file:
        csv.writer(file).writerows([SPEECH_MANIFEST_COLUMNS, *rows])
    return folder / "speech.csv"


@pytest.fixture(scope="module", autouse=True)
def few_degradations(tmp_path_factory):
    """Use two degradations instead of six, and forty resamples instead of a thousand."""
    with pytest.MonkeyPatch.context() as patch:
        degradations = {name: WAVEFORM_DEGRADATIONS[name] for name in (STORED_VOICE, "telephone")}
        for module in (voice_features, voice_fitting, voice_predictions, voice_scoring):
            patch.setattr(module, "WAVEFORM_DEGRADATIONS", degradations)
        patch.setattr(voice_features, "CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(metrics, "RESAMPLES", 40)
        yield


def train_in(folder, manifest, *options):
    train_audio.main(
        ["--manifest", str(manifest), "--run", str(folder), "--out", str(folder / "voice.h5"), "--versions=1", *options]
    )


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_in(folder, manifest)
    return folder


EXAMPLES = [
    Example(None, label, "a", generator if label else "human", f"{generator} {number}", "train")
    for generator in GENERATORS
    for number in range(4)
    for label in (0, 0, 1)
]


def test_a_network_separates_fakes_from_reals_and_stores_its_training(run):
    found = load_voice_detector(run / "voice.onnx", threads=1)
    fake, real = (found.detect(speak(2.4, 99, buzz=buzz)) for buzz in (0.2, 0))
    assert fake.logit > real.logit + 0.2
    spec = read_spec(run / "voice.h5")
    assert spec == found.engine.spec and spec.network == "voice" and spec.voice == VOICE_INPUT
    assert spec.training["recordings"] == 2 * SPEAKERS and "/" not in spec.training["settings"]["manifest"]
    assert spec.training["speakers"] == SPEAKERS
    assert spec.training["sources"] == {"studio fake": SPEAKERS, "studio real": SPEAKERS}
    assert spec.calibration.slope > 0 and spec.calibration.threshold_fake < 1
    reference = load_voice_detector(run / "voice.h5", engine="keras")
    assert reference.detect(speak(2)).logit == pytest.approx(found.detect(speak(2)).logit, abs=1e-4)


def test_the_network_computes_the_logits_of_the_head():
    import keras

    rng = np.random.default_rng(0)
    network = build_voice_network()
    inner = keras.Model(network.input, [network.get_layer("statistics").output, network.output["logit"]])
    spectrograms = rng.normal(-50, 12, (6, 9, ROWS)).astype(np.float32)
    statistics = np.asarray(inner(spectrograms, training=False)[0])
    features = [{Variant(): WindowFeatures(statistics[number : number + 1], "")} for number in range(6)]
    examples = [Example(None, number % 2, "a", "b", str(number), "train") for number in range(6)]
    head = fit_head_weights(examples, features, copies=0.0, decay=1e-3)
    set_head_weights(network, head)
    logits = np.asarray(inner(spectrograms, training=False)[1])[:, 0]
    assert (np.sign(logits) == [-1, 1] * 3).all()
    np.testing.assert_allclose(head.logits(statistics), logits, atol=1e-4)


def test_every_recording_is_predicted_by_networks_trained_without_its_generator(run):
    rows = read_fold_predictions(run)
    assert {row["recording"] for row in rows} == set(range(2 * SPEAKERS))
    assert {row["delivery"] for row in rows} == {STORED_VOICE, "telephone"}
    for row in rows:
        if row["label"]:
            expected = row["generator"] if row["held"] == GENERATOR else family_of(row["generator"])
            assert row["left_out"] == expected
        assert row["page"] == row["group"]  # the manifest has no pages
    logits = {label: [row["logit"] for row in rows if row["label"] == label] for label in (0, 1)}
    assert np.median(logits[1]) > np.median(logits[0]) + 0.3


def test_a_stopped_run_continues_and_gives_the_same(run, manifest, monkeypatch):
    predictions = (run / PREDICTIONS_FILE).read_bytes()
    logit = load_voice_detector(run / "voice.onnx").detect(speak(2)).logit
    stored = sorted((run / "statistics").iterdir())
    stored[0].unlink()
    (run / PREDICTIONS_FILE).unlink()
    measured, gate = [], voice_features.speech_exclusion_reasons
    monkeypatch.setattr(
        voice_features, "speech_exclusion_reasons", lambda *sound: measured.append(sound) or gate(*sound)
    )
    train_in(run, manifest, "--threads=1")
    assert 0 < len(measured) <= 3 + 2 * 2  # variants of one recording, with its copies
    assert (run / PREDICTIONS_FILE).read_bytes() == predictions
    assert load_voice_detector(run / "voice.onnx").detect(speak(2)).logit == pytest.approx(logit, abs=1e-4)
    with pytest.raises(SystemExit, match="other settings"):
        train_in(run, manifest, "--decay=0.5")


def fit(repeats=(1, 1, 1), copies=0.0, examples=EXAMPLES, decay=1e-3):
    """Fit weights on two windows a recording, which differ by label, each repeated as the list says in turn."""
    rng, features = np.random.default_rng(0), []
    for number, example in enumerate(examples):
        windows = rng.normal(example.label, 1, (2, SIZE))
        variants = {Variant(): WindowFeatures(np.tile(windows, (repeats[number % len(repeats)], 1)), "")}
        if not example.label:
            variants[Variant("griffin_lim")] = WindowFeatures(rng.normal(-3, 1, (2, SIZE)), "")
        variants[Variant("", "telephone")] = WindowFeatures(np.full((2, SIZE), np.nan), "")
        features.append(variants)
    return fit_head_weights(examples, features, copies=copies, decay=decay)


def test_a_recording_weighs_the_same_at_any_duration():
    one, other = fit(), fit((7, 1, 3))
    points = np.random.default_rng(1).normal(0.5, 1, (20, SIZE))
    np.testing.assert_allclose(one.logits(points), other.logits(points), atol=1e-2)
    assert one.linear.mean() > 0


def test_bands_above_the_limit_have_no_weight():
    # Ten statistics for each of 32 groups of bands, four of them above 7 kHz, and those of no group.
    head, above = fit(), list(range(280, 320))
    assert np.flatnonzero(~head.components[0].any(axis=1)).tolist() == above
    assert np.flatnonzero(head.linear == 0).tolist() == above + list(range(352, SIZE))


def test_copies_count_as_fakes_by_their_proportion():
    typical = [fit(copies=copies).typical.mean() for copies in (0, 0.5)]
    # Half of the weight is on reals around 0. Fakes are around 1, copies around -3; griffin_lim copies are 0.8 of all
    # copies. The mean magnitude of normal values around 0, 1 and -3 is 0.80, 1.17 and 3.00.
    assert typical[0] == pytest.approx(0.5 * 0.80 + 0.5 * 1.17, abs=0.03)
    assert typical[1] == pytest.approx((0.5 * 0.80 + 0.25 * 1.17 + 0.2 * 3.00) / 0.95, abs=0.1)


@pytest.mark.parametrize(
    ("stored", "degraded", "drawn"),
    [
        (3000, 9000, (CENTRES - DEGRADED_CENTRES, DEGRADED_CENTRES)),
        (3000, 100, (CENTRES - 100, 100)),
        (500, 9000, (500, CENTRES - 500)),
        (20, 10, (20, 10)),
    ],
)
def test_some_centres_are_degraded_where_there_are_enough_and_none_are_copies(stored, degraded, drawn):
    are_stored = np.repeat([True, False, False], [stored, degraded, 700])
    classes = np.where(np.arange(len(are_stored)) < stored + degraded, "real", "world")
    labels, weights = np.zeros(len(classes), int), np.full(len(classes), 1 / len(classes))
    centres = _draw_centres(_TrainingWindows(np.zeros((len(classes), 1)), labels, classes, weights, are_stored))
    assert (are_stored[centres].sum(), (~are_stored[centres]).sum()) == drawn
    assert len(set(centres)) == len(centres) and set(classes[centres]) == {"real"}


def test_decay_makes_weights_smaller():
    assert np.abs(fit(decay=1.0).linear).sum() < 0.5 * np.abs(fit().linear).sum()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--versions=-1"], "--versions must be"),
        (["--tests=0"], "--tests must be"),
        (["--copies=1.5"], "--copies must be"),
        (["--decay=0"], "--decay must be"),
        (["--threads=0"], "--threads must be"),
        (["--versions=many"], "--versions"),
    ],
)
def test_an_option_out_of_range_is_rejected_with_a_sentence(tmp_path, capsys, options, sentence):
    with pytest.raises(SystemExit) as stopped:
        train_in(tmp_path / "run", tmp_path / "speech.csv", *options)
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_options_have_the_documented_defaults(tmp_path):
    settings = VoiceTrainingSettings(tmp_path)
    assert (settings.versions, settings.tests, settings.copies, settings.decay) == (3, None, 0.0, 3e-4)


def test_a_run_starts_with_a_usable_manifest_only(tmp_path):
    with pytest.raises(SystemExit, match="There is no manifest"):
        train_in(tmp_path / "run", tmp_path / "speech.csv")
    assert not (tmp_path / "run").exists()


def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(voice_fitting, "VOICE_TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="engines' logits differ"):
        export_voice(run / "voice.h5", tmp_path / "voice.onnx")
    assert not list(tmp_path.iterdir())


def test_the_evaluation_reads_val_only_on_request(run, manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(voice_scoring, "MIN_FAKES", 2)
    read, read_manifest = [], voice_scoring.read_speech_manifest
    monkeypatch.setattr(voice_scoring, "read_speech_manifest", lambda path: read.append(path) or read_manifest(path))
    command = ["--run", str(run), "--model", str(run / "voice.onnx"), "--out", str(tmp_path)]
    evaluate_audio.main(command)
    measured = json.loads((tmp_path / "voice_metrics.json").read_text())
    assert read == [] and measured["val"] == {}
    assert measured["folds"][GENERATOR][STORED_VOICE]["auc"]["value"] > 0.9
    assert measured["folds"][FAMILY]["damaged"]["n_fake"] == SPEAKERS
    evaluate_audio.main([*command, "--val", str(manifest)])
    measured = json.loads((tmp_path / "voice_metrics.json").read_text())
    assert len(read) == 1 and measured["val"][STORED_VOICE]["false_alarms"]["n"] == 1  # the one real recording of val
    with open(tmp_path / "voice_scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(voice_scoring.VOICE_SCORE_COLUMNS)
    assert len(rows) == len(read_fold_predictions(run)) and str(manifest.parent) not in str(rows)
    assert "| generator | stored |" in capsys.readouterr().out


def test_the_evaluation_needs_a_finished_run(tmp_path):
    with pytest.raises(SystemExit, match="There is no"):
        evaluate_audio.main(["--run", str(tmp_path), "--out", str(tmp_path)])
