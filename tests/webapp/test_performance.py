import json
import os

import pytest

from detector import Verdict
from webapp.performance import PLOTS, error_sentence, plots_in, read_metrics

MODEL = "5" * 64


def measured(value, n=1000):
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": n}


METRICS = {
    "model": {"sha256_h5": MODEL, "sha256_file": "6" * 64, "name": "a network"},
    "split": "val",
    "created": "2026-11-20",
    "overall": {
        "n": 2345,
        "n_real": 1200,
        "n_fake": 1145,
        "auc": measured(0.912),
        "accuracy_decided": measured(0.871),
        "inconclusive": measured(0.163, 2345),
        "face_found": measured(0.985),
        "eer": measured(0.154),
        "brier": measured(0.101),
        "ece": measured(0.031),
    },
    "verdicts": {"deepfake": {"wrong": measured(0.042, 1200)}, "real": {"wrong": measured(0.057, 1145)}},
    "confusion": {"real": {"real": 950, "inconclusive": 200, "deepfake": 50}, "fake": {"real": 65, "deepfake": 900}},
    "sources": [
        {"source": "portraits", "label": 0, "n": 700, "auc": None, "wrong": measured(0.033, 700), "inconclusive": {}},
        {"source": "swaps", "label": 1, "n": 1145, "auc": measured(0.887), "wrong": measured(0.072)},
    ],
    "deliveries": {"jpeg 50": {"auc": measured(0.853), "false_alarms": measured(0.081), "misses": None}},
}

VOICE_METRICS = {
    "model": {"sha256_h5": MODEL},
    "folds": {
        "generator": {
            "stored": {
                "n_real": 244,
                "n_fake": 221,
                "n_generators": 1,
                "n_speakers": 143,
                "auc": measured(0.881),
                "false_alarms": {**measured(0.037), "n": 244},
                "misses": {**measured(0.05), "n": 221},
                "inconclusive": {**measured(0.508), "n": 465},
                "generators": [{"name": "wavenet & co", "n": 8, "n_speakers": 2, "auc": measured(0.777)}],
            }
        }
    },
}


@pytest.fixture
def figures(app, tmp_path):
    """Return a function that puts a metrics.json where the application expects it."""
    folder = tmp_path / "visualizations"
    folder.mkdir()
    app.config["VISUALIZATIONS"] = folder

    def write(metrics):
        (folder / "metrics.json").write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
        return folder

    return write


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            Verdict.DEEPFAKE,
            "Of 1,200 held-out real pictures, 4.2% were wrongly called a deepfake (95% interval 3.2% to 5.2%).",
        ),
        (Verdict.REAL, "Of 1,145 held-out deepfakes, 5.7% were wrongly called real (95% interval 4.7% to 6.7%)."),
        (
            Verdict.INCONCLUSIVE,
            "Of 2,345 held-out pictures, 16.3% were inconclusive like this one (95% interval 15.3% to 17.3%).",
        ),
    ],
)
def test_how_often_a_verdict_is_wrong_comes_from_the_figures_of_that_model(verdict, sentence):
    assert error_sentence(METRICS, str(verdict), MODEL) == sentence
    assert "not been measured" in error_sentence(METRICS, str(verdict), "7" * 64)


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        {},
        {"model": None},
        {"model": {"sha256_h5": MODEL}},
        {**METRICS, "verdicts": []},
        {**METRICS, "verdicts": {}},
    ],
)
def test_figures_that_are_missing_are_said_to_be_missing(metrics):
    assert "not been measured" in error_sentence(metrics, "real", MODEL)


def test_the_result_page_says_how_often_it_is_wrong(client, face_jpeg, figures, force_verdict, picture_detector):
    figures({**METRICS, "model": {"sha256_h5": picture_detector.engine.model_sha256}})
    force_verdict("deepfake")
    assert "4.2% were wrongly called a deepfake" in client.get(client.upload(face_jpeg).location).text


def test_the_performance_page_shows_the_figures(client, figures):
    figures(METRICS)
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("0.912", "95% interval 0.902 to 0.922, n = 1,000", "4.2%", "5.7%", "portraits", "swaps", "n = 2,345"):
        assert words in page
    assert "3.3% (2.3% to 4.3%)" in page and "0.887 (0.877 to 0.897)" in page and "15.4%" in page
    assert "jpeg 50" in page and "0.853 (0.843 to 0.863)" in page and "8.1% (7.1% to 9.1%)" in page and MODEL in page
    assert "There are no plots yet" in page and "Run <code>python scripts/evaluate_audio.py</code>" in page


def test_the_performance_page_shows_the_performance_on_voices(client, figures):
    folder = figures(METRICS)
    (folder / "voice_metrics.json").write_text(json.dumps(VOICE_METRICS))
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("0.881", "of 143 speakers", "3.7%", "wavenet &amp; co", "0.777 (0.767 to 0.787)"):
        assert words in page


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.DEEPFAKE, "Of 244 real recordings of unseen speakers, 3.7% were wrongly called a deepfake"),
        (Verdict.REAL, "Of 221 fakes by unseen generators, 5.0% were wrongly called real"),
        (Verdict.INCONCLUSIVE, "Of 465 recordings of unseen speakers, 50.8% were inconclusive"),
    ],
)
def test_a_voice_has_figures_of_its_own(verdict, words):
    assert words in error_sentence(VOICE_METRICS, str(verdict), MODEL, media="audio")
    assert "not been measured" in error_sentence(METRICS, str(verdict), MODEL, media="audio")


def test_a_video_says_that_only_pictures_were_measured():
    sentence = error_sentence(METRICS, "real", MODEL, media="video")
    assert sentence.startswith("Whole videos were not measured") and "5.7% were wrongly called real" in sentence


@pytest.mark.parametrize(
    "metrics",
    [
        "{",
        "[]",
        {},
        {"overall": None, "sources": [{}], "deliveries": {"a": None}},
        {**METRICS, "overall": {}, "confusion": {"real": {}}},
    ],
)
def test_the_performance_page_survives_whatever_it_finds(client, figures, metrics):
    figures(metrics)
    assert client.get("/performance").status_code == 200


def test_plots_are_shown_once_they_are_drawn(client, figures):
    folder = figures(METRICS)
    (folder / "roc.png").write_bytes(b"\x89PNG picture")
    (folder / "secret.png").write_bytes(b"\x89PNG picture")
    page = client.get("/performance").text
    assert [plot.name for plot in plots_in(folder)] == ["roc"]
    assert 'src="/visualizations/roc.png"' in page and 'alt="ROC curve.' in page and "auc.png" not in page
    answer = client.get("/visualizations/roc.png")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", b"\x89PNG picture")
    assert client.get("/visualizations/secret.png").status_code == 404
    assert client.get("/visualizations/auc.png").status_code == 404


def test_further_plots_are_shown_on_request(client, figures):
    folder = figures(METRICS)
    assert "<details>" not in client.get("/performance").text
    for plot in PLOTS:
        (folder / f"{plot.name}.png").write_bytes(b"\x89PNG picture")
    first, more = client.get("/performance").text.split("<details>")
    in_front = {"acc", "cm", "roc", "auc"}  # by name, of every detector of this kind
    assert {plot.name for plot in PLOTS if f'src="/visualizations/{plot.name}.png"' in first} == in_front
    assert {plot.name for plot in PLOTS if f'src="/visualizations/{plot.name}.png"' in more} == (
        {plot.name for plot in PLOTS} - in_front
    )
    assert (first + more).count('loading="lazy"') == len(PLOTS)


def test_the_readme_of_the_plots_names_each(pytestconfig):
    page = (pytestconfig.rootpath / "visualizations" / "README.md").read_text()
    assert all(f"`{plot.name}.png`" in page for plot in PLOTS)


def test_new_figures_are_read_without_a_restart(figures):
    folder = figures({"split": "old"})
    assert read_metrics(folder) == {"split": "old"}
    figures({"split": "new"})
    os.utime(folder / "metrics.json", ns=(1, 1))
    assert read_metrics(folder) == {"split": "new"}
