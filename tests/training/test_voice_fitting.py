import csv
import json

import numpy as np
import pytest
from clips import make_sound
from voices import speak

from detector import metrics
from detector.models.spec import read_spec
from detector.results import ModelError
from detector.voices import detect as voice
from detector.voices.detect import load_voice_detector
from detector.voices.features import VOICE_INPUT
from training import voice_fitting as train_audio
from training import voice_scoring as evaluate_audio
from training.manifests import Example
from training.voice_fitting import (
    FAMILY,
    GENERATOR,
    STORED_VOICE,
    LinearWeights,
    cut_fold,
    list_folds,
    part_speakers,
    read_fold_predictions,
)
from training.voice_scoring import draw_predictions, mean_auc, score_recordings

GENERATORS = ("HGAN_V1", "tacotron2+hifigan", "wavenet")
SPEAKERS = 10


def write_manifest(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([train_audio.SPEECH_MANIFEST_COLUMNS, *rows])
    return path


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A real and a fake of each speaker, the fakes with a line that stands still; one speaker is for val alone."""
    folder, rows = tmp_path_factory.mktemp("speech"), []
    for speaker in range(SPEAKERS + 1):
        split = "val" if speaker == SPEAKERS else "train"
        for label in (0, 1):
            sound = speak(2.4, 2 * speaker + label, pitch_hz=90 + 12 * speaker, buzz=0.2 * label)
            (folder / f"{speaker}{label}.wav").write_bytes(make_sound(sound))
            generator = GENERATORS[speaker % 3] if label else "human"
            rows.append([f"{speaker}{label}.wav", label, split, "studio", generator, f"speaker{speaker}"])
    return write_manifest(folder / "speech.csv", rows)


@pytest.fixture(scope="module", autouse=True)
def few_deliveries(tmp_path_factory):
    """Two deliveries are as good a test as six, and forty resamples as a thousand."""
    with pytest.MonkeyPatch.context() as patch:
        deliveries = {name: train_audio.WAVEFORM_DEGRADATIONS[name] for name in (STORED_VOICE, "telephone")}
        for module in (train_audio, evaluate_audio):
            patch.setattr(module, "DELIVERIES", deliveries)
        patch.setattr(train_audio, "CACHE", tmp_path_factory.mktemp("cache"))
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


def example(label, generator, group, source="a", split="train"):
    return Example(None, label, source, generator, group, split)


EXAMPLES = [
    example(label, generator if label else "human", f"{generator} {number}")
    for generator in GENERATORS
    for number in range(4)
    for label in (0, 0, 1)
]


def test_a_network_learns_what_a_vocoder_leaves_and_travels_with_its_account(run):
    found = load_voice_detector(run / "voice.onnx", threads=1)
    fake, real = (found.detect(speak(2.4, 99, buzz=buzz)) for buzz in (0.2, 0))
    assert fake.logit > 1 > -1 > real.logit
    spec = read_spec(run / "voice.h5")
    assert spec == found.engine.spec and spec.network == "voice" and spec.voice == VOICE_INPUT
    assert spec.training["recordings"] == 2 * SPEAKERS and "/" not in spec.training["settings"]["manifest"]
    assert spec.calibration.slope > 0 and spec.calibration.threshold_fake < 1
    reference = load_voice_detector(run / "voice.h5", engine="keras")
    assert reference.detect(speak(2)).logit == pytest.approx(found.detect(speak(2)).logit, abs=1e-4)


def test_the_network_votes_as_the_folds_do(run):
    rng = np.random.default_rng(0)
    network = train_audio.build_voice_network(train_audio.BANDS)
    size = network.get_layer("statistics").output.shape[1]
    votes = LinearWeights(rng.normal(5, 9, size), rng.uniform(0.01, 9, size), rng.normal(0, 0.1, size), 0.7)
    train_audio.set_linear_weights(network, votes.mean, votes.variance, votes.weights, votes.bias)
    import keras

    inside = keras.Model(network.input, [network.get_layer("statistics").output, network.output["logit"]])
    spectrograms = rng.normal(-50, 12, (3, train_audio.BANDS, 9, 1)).astype(np.float32)
    statistics, logits = inside(spectrograms, training=False)
    assert np.ptp(logits) > 0.1
    np.testing.assert_allclose(votes.logits(np.asarray(statistics)), np.asarray(logits)[:, 0], atol=1e-4)


def test_every_recording_is_answered_by_networks_that_have_not_learned_from_it(run):
    answers = read_fold_predictions(run / "fold_predictions.csv")
    assert {row["recording"] for row in answers} == set(range(2 * SPEAKERS))
    assert {row["delivery"] for row in answers} == {STORED_VOICE, "telephone"}
    for row in answers:
        if row["label"]:
            named = row["generator"] if row["held"] == GENERATOR else train_audio.family_of(row["generator"])
            assert row["left_out"] == named
    logits = {label: [row["logit"] for row in answers if row["label"] == label] for label in (0, 1)}
    assert np.median(logits[1]) > np.median(logits[0]) + 1


def test_a_run_goes_on_where_it_was_and_gives_the_same(run, manifest, monkeypatch):
    answers, model = (
        (run / "fold_predictions.csv").read_bytes(),
        load_voice_detector(run / "voice.onnx").detect(speak(2)).logit,
    )
    kept = sorted((run / "statistics").iterdir())
    kept[0].unlink()
    (run / "fold_predictions.csv").unlink()
    heard = []
    monkeypatch.setattr(train_audio, "scope", lambda waveform: heard.append(waveform) or voice.scope(waveform))
    train_in(run, manifest, "--threads=1")
    assert 0 < len(heard) <= 3 + 2 * 2  # of one recording, with its copies
    assert (run / "fold_predictions.csv").read_bytes() == answers
    assert load_voice_detector(run / "voice.onnx").detect(speak(2)).logit == pytest.approx(model, abs=1e-4)
    with pytest.raises(SystemExit, match="other settings"):
        train_in(run, manifest, "--decay=0.5")


def test_no_speaker_and_no_generator_is_on_both_sides():
    folds = list_folds(EXAMPLES, 3)
    assert {fold.name for fold in folds if fold.held == GENERATOR} == set(GENERATORS)
    assert {fold.name for fold in folds if fold.held == FAMILY} == {"HiFi-GAN", "WaveNet"}
    asked_of = {GENERATOR: set(), FAMILY: set()}
    for fold in folds:
        learned, asked = cut_fold(EXAMPLES, fold, 3)
        assert not {EXAMPLES[i].group for i in learned} & {EXAMPLES[i].group for i in asked}
        name_of = train_audio.family_of if fold.held == FAMILY else str
        assert fold.name not in {name_of(EXAMPLES[i].generator) for i in learned if EXAMPLES[i].label}
        assert {name_of(EXAMPLES[i].generator) for i in asked if EXAMPLES[i].label} == {fold.name}
        assert {EXAMPLES[i].label for i in learned} == {0, 1}
        asked_of[fold.held] |= set(asked)
    assert asked_of[GENERATOR] == asked_of[FAMILY] == set(range(len(EXAMPLES)))


def test_the_parts_have_about_as_many_fakes_and_as_many_reals():
    examples = [example(label, "g", f"s{i}") for i in range(15) for label in [0] * (i % 4 + 1) + [1] * (i % 3)]
    parts = part_speakers(examples, 5)
    for label in (0, 1):
        counts = np.bincount([parts[e.group] for e in examples if e.label == label], minlength=5)
        assert np.ptp(counts) <= 4
    assert parts == part_speakers(examples[::-1], 5)


def test_a_recording_weighs_the_same_however_long_it_is():
    def learned(repeats):
        rng = np.random.default_rng(0)
        heard = []
        for number, example in enumerate(EXAMPLES):
            windows = rng.normal(example.label, 1, (2, 352))
            heard.append({("", STORED_VOICE): (np.tile(windows, (repeats[number % 3], 1)), "")})
        return train_audio.learn(EXAMPLES, heard, train_audio.VoiceTrainingSettings("", "", "", 1))

    one, other = learned((1, 1, 1)), learned((7, 1, 3))
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
    assert one.bias == pytest.approx(other.bias, abs=1e-3) and one.weights.mean() > 0
    # Ten statistics for each of 32 groups of bands, four of them above 7 kHz, and 32 harmonics.
    assert np.flatnonzero(one.weights == 0).tolist() == list(range(280, 320))


def test_a_speaker_known_by_the_collection_is_all_of_them(tmp_path):
    speakers = ("vctk?", "vctk_p225", "ls1", "arctic")
    rows = [[f"{i}.wav", i % 2, "train", "s", "g", speaker] for i, speaker in enumerate(speakers)]
    found = train_audio.read_speech(write_manifest(tmp_path / "m.csv", rows))
    assert [e.group for e in found] == ["vctk", "vctk", "ls1", "arctic"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "is empty or lacks one of the columns"),
        ([["a.wav", 2, "train", "s", "g", "p"]], "has 2"),
        ([["a.wav", 1, "train", "s", "g", ""]], "needs a path, a speaker"),
        ([["a.wav", 1, "train", "s", "g", "p"]], "needs real and fake recordings"),
    ],
)
def test_a_manifest_that_will_not_do_is_refused_with_a_sentence(tmp_path, rows, sentence):
    with pytest.raises(SystemExit, match=sentence):
        train_in(tmp_path / "run", write_manifest(tmp_path / "m.csv", rows))
    assert not (tmp_path / "run").exists()


def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(train_audio, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="engines' logits differ"):
        train_audio.export_voice(run / "voice.h5", tmp_path / "voice.onnx")
    assert not list(tmp_path.iterdir())


def answers(count=40, gap=2.0, parts=4, seed=0):
    """Rows as train_audio.py writes them: each real asked of two networks."""
    rng, rows = np.random.default_rng(seed), []
    for recording in range(count):
        label, part = recording % 2, recording // 2 % parts
        for held in (GENERATOR, FAMILY):
            for left_out in ["one"] if label else ["one", "two"]:
                for delivery in evaluate_audio.WAVEFORM_DEGRADATIONS:
                    logit = rng.normal(gap * label, 1)
                    values = [
                        recording,
                        label,
                        "s",
                        "g",
                        f"p{recording // 4}",
                        held,
                        left_out,
                        part,
                        delivery,
                        logit,
                        "",
                    ]
                    rows.append(dict(zip(train_audio.PREDICTION_COLUMNS, values, strict=True)))
    return rows


def test_a_verdict_is_of_thresholds_that_have_not_seen_the_speaker():
    rows = answers()
    moved = [{**row, "logit": row["logit"] + 50} if row["part"] == 2 else row for row in rows]
    one, other = score_recordings(rows), score_recordings(moved)
    assert len(one) == len(rows) and {row["verdict"] for row in one} == {"real", "deepfake", "inconclusive"}
    # What part 2 is called follows from the others alone; what the others are called does not stay.
    assert all(row["verdict"] == "deepfake" for row in other if row["part"] == 2)
    probabilities = [[row["probability"] for row in found if row["part"] == 0] for found in (one, other)]
    assert not np.allclose(*probabilities)
    out_of_scope = score_recordings([{**row, "reasons": "noisy"} if row["recording"] == 0 else row for row in rows])
    assert {row["verdict"] for row in out_of_scope if row["recording"] == 0} == {"inconclusive"}


def test_a_real_asked_of_many_networks_counts_once():
    rows = [row for row in answers() if row["held"] == GENERATOR]
    drawn = draw_predictions(rows)
    assert len(drawn) == 40 * len(evaluate_audio.WAVEFORM_DEGRADATIONS)
    assert {row["left_out"] for row in drawn if not row["label"]} == {"one", "two"}
    figures = evaluate_audio.measure_folds([row for row in score_recordings(answers()) if row["held"] == GENERATOR])
    assert (figures["n_real"], figures["n_fake"], figures["false_alarms"]["n"]) == (20, 20, 20 * 2)


def test_generators_count_the_same_in_the_mean():
    label = np.array([0, 1, 0, 1, 1, 1])
    logit = np.array([0.0, 1, 5, 4, 4, 4])
    assert mean_auc(label, logit, np.array([0, 0, 2, 2, 2, 2])) == 0.5
    with pytest.raises(ValueError, match="no unit"):
        mean_auc(label, logit, np.arange(6))


def test_figures_follow_the_gap_and_few_fakes_are_listed_but_do_not_count():
    wide, narrow = (evaluate_audio.measure_folds(score_recordings(answers(gap=gap))) for gap in (4, 1))
    assert wide["auc"]["low"] > narrow["auc"]["value"] and narrow["auc"]["low"] < narrow["auc"]["high"]
    assert wide["fakes_found"]["value"] > narrow["fakes_found"]["value"]
    few = [row for row in score_recordings(answers(gap=4)) if row["recording"] < 8 and row["held"] == GENERATOR]
    figures = evaluate_audio.measure_folds(few)
    assert figures["auc"] is None and figures["n_generators"] == 0
    listed = figures["generators"][0]
    assert (listed["name"], listed["n"], listed["n_speakers"]) == ("one", 4, 2) and listed["auc"]["value"] > 0.9


def test_evaluating_writes_what_is_quoted_and_reads_val_only_when_asked(run, manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate_audio, "MIN_FAKES", 2)
    read = []
    monkeypatch.setattr(evaluate_audio, "read_speech", lambda path: read.append(path) or train_audio.read_speech(path))
    command = ["--run", str(run), "--model", str(run / "voice.onnx"), "--out", str(tmp_path)]
    evaluate_audio.main(command)
    figures = json.loads((tmp_path / "voice_metrics.json").read_text())
    assert read == [] and figures["val"] == {}
    assert figures["folds"][GENERATOR][STORED_VOICE]["auc"]["value"] > 0.9
    assert figures["folds"][FAMILY]["damaged"]["n_fake"] == SPEAKERS
    evaluate_audio.main([*command, "--val", str(manifest)])
    figures = json.loads((tmp_path / "voice_metrics.json").read_text())
    assert len(read) == 1 and figures["val"][STORED_VOICE]["false_alarms"]["n"] == 1  # the real of val alone
    with open(tmp_path / "voice_scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(read_fold_predictions(run / "fold_predictions.csv")) and str(manifest.parent) not in str(
        rows
    )
    assert "| generator | stored |" in capsys.readouterr().out


def test_the_table_for_the_person_has_each_stored_recording_once(run):
    detector = load_voice_detector(run / "voice.onnx")
    rows = score_recordings(answers())
    table = evaluate_audio.voice_reference_scores(rows, detector)
    assert [(size.kind, len(size.probabilities)) for size in table.sizes] == [("real", 20), ("fake", 20)]
    assert table.model_sha256 == detector.engine.model_sha256
