import json
import os
import re

import pytest

from detector import Verdict
from detector.reports import KNOWN_PHRASE
from webapp.performance import (
    EXPERIMENTAL_WIDTH,
    error_sentence,
    experimental_sentence,
    read_metrics,
    read_unseen_metrics,
)
from webapp.plots import PLOTS

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

UNSEEN_METRICS = {  # made up
    "created": "2026-11-21",
    "model_sha256": MODEL,
    "n": 12345,
    "macro_family": measured(0.812, 27),
    "macro_family_matched": measured(0.743, 27),
    "kinds": [
        {"kind": "swap", "families": 12, "auc": measured(0.701, 12), "auc_matched": measured(0.688, 12)},
        {"kind": "talking head", "families": ["one & two", "three"], "auc": measured(0.655, 2), "auc_matched": None},
    ],
    "families": [
        {"family": "simswap", "kind": "swap", "fold": 1, "n": 321, "auc": measured(0.666), "auc_matched": None,
         "called_real": measured(0.222), "inconclusive": measured(0.555)},
    ],
    "real_sources": [
        {"source": "own camera", "kind": "photograph", "fold": 2, "n": 1432, "false_alarms": measured(0.047),
         "inconclusive": measured(0.444)},
    ],
    "tiers": {
        "stored": {"macro_family": measured(0.812), "false_alarms": measured(0.0184, 5000),
                   "called_real": measured(0.1091, 7345), "inconclusive": measured(0.4321, 12345)},
        "half": {"macro_family": measured(0.799), "false_alarms": measured(0.019), "called_real": measured(0.118),
                 "inconclusive": None},
    },
    "trade_off": [
        {"called_real": 0.04, "false_alarms": 0.02, "inconclusive": 0.713},
        {"called_real": 0.12, "false_alarms": 0.02, "inconclusive": 0.437},
    ],
}  # fmt: skip

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
            f"Of 1,200 real pictures {KNOWN_PHRASE}, 4.2% were wrongly called a deepfake (95% interval 3.2% to 5.2%).",
        ),
        (
            Verdict.REAL,
            f"Of 1,145 deepfakes {KNOWN_PHRASE}, 5.7% were wrongly called real (95% interval 4.7% to 6.7%).",
        ),
        (
            Verdict.INCONCLUSIVE,
            f"Of 2,345 pictures {KNOWN_PHRASE}, 16.3% were inconclusive like this one (95% interval 15.3% to 17.3%).",
        ),
    ],
)
def test_how_often_a_verdict_is_wrong_comes_from_the_figures_of_that_model(verdict, sentence):
    assert error_sentence(METRICS, str(verdict), MODEL) == f"{sentence} Other collections were not measured."
    assert "not been measured" in error_sentence(METRICS, str(verdict), "7" * 64)


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            Verdict.DEEPFAKE,
            "Of 1,000 real pictures from sources it had not seen, 18 (8 to 29) were wrongly called a deepfake. "
            "Measured on 5,000.",
        ),
        (
            Verdict.REAL,
            "Of 1,000 deepfakes of kinds it had not seen, 109 (99 to 120) were wrongly called real. Measured on 7,345.",
        ),
        (
            Verdict.INCONCLUSIVE,
            "Of 1,000 pictures of kinds and sources it had not seen, 432 (422 to 443) were inconclusive like this one. "
            "Measured on 12,345.",
        ),
    ],
)
def test_figures_of_kinds_left_out_take_the_place_of_those_of_known_collections(verdict, sentence):
    said = error_sentence(METRICS, str(verdict), MODEL, unseen=UNSEEN_METRICS)
    assert said.replace("\N{NO-BREAK SPACE}", " ") == sentence
    video = error_sentence(METRICS, str(verdict), MODEL, unseen=UNSEEN_METRICS, media="video")
    assert "not been measured" in video  # rates of pictures do not hold for videos
    assert "not been measured" in error_sentence(METRICS, str(verdict), "7" * 64, unseen=UNSEEN_METRICS)
    assert error_sentence(VOICE_METRICS, str(verdict), MODEL, unseen=UNSEEN_METRICS, media="audio") == error_sentence(
        VOICE_METRICS, str(verdict), MODEL, media="audio"
    )


@pytest.mark.parametrize("unseen", [None, {}, {"tiers": 7}, {"tiers": {"stored": {"called_real": {"value": 0.1}}}}])
def test_without_a_figure_of_kinds_left_out_the_known_one_is_named_as_such(unseen):
    assert KNOWN_PHRASE in error_sentence(METRICS, "real", MODEL, unseen=unseen)


@pytest.mark.parametrize(
    ("model_sha256", "metrics", "is_read"),
    [
        (MODEL, METRICS, True),
        ("0" * 64, METRICS, False),
        (None, METRICS, False),
        (None, {**METRICS, "training": {"calibrated_on": "known"}}, False),
        (None, {**METRICS, "training": {"calibrated_on": "unseen"}}, True),
        (MODEL, None, True),
    ],
    ids=["this model", "another", "unknown", "calibrated on known", "calibrated on unseen", "no other metrics"],
)
def test_figures_of_kinds_left_out_belong_to_one_model(model_sha256, metrics, is_read, tmp_path):
    assert read_unseen_metrics(tmp_path, metrics) is None
    text = json.dumps({**UNSEEN_METRICS, "model_sha256": model_sha256})
    (tmp_path / "unseen_metrics.json").write_text(text)
    assert (read_unseen_metrics(tmp_path, metrics) is not None) is is_read
    assert read_unseen_metrics(tmp_path, metrics, "audio") is None


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


def test_the_result_page_shows_the_figures_of_kinds_left_out(
    client, face_jpeg, figures, force_verdict, picture_detector
):
    sha256 = picture_detector.engine.model_sha256
    folder = figures({**METRICS, "model": {"sha256_h5": sha256}})
    (folder / "unseen_metrics.json").write_text(json.dumps({**UNSEEN_METRICS, "model_sha256": sha256}))
    force_verdict("real")
    page = client.get(client.upload(face_jpeg).location).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Of 1,000 deepfakes of kinds it had not seen, 109 (99 to 120) were wrongly called real" in page
    assert "5.7% were wrongly called real" not in page


def test_the_performance_page_shows_kinds_left_out_before_known_collections(client, figures):
    folder = figures(METRICS)
    (folder / "unseen_metrics.json").write_text(json.dumps(UNSEEN_METRICS))
    (folder / "trade_off.png").write_bytes(b"\x89PNG picture")
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ")
    unseen, known = page.split('<h2 id="overall">')
    for words in (
        *("12,345 pictures", "0.812", "0.743", "10.9%", "1.8%", "43.2%"),
        *("swap", "0.701 (0.691 to 0.711)", "0.688 (0.678 to 0.698)", "one &amp; two, three"),
        *("simswap", "321", "0.666 (0.656 to 0.676)", "22.2% (21.2% to 23.2%)"),
        *("own camera", "1,432", "4.7% (3.7% to 5.7%)"),
        *("shrunk to half", "0.799", "71.3%", "43.7%", "has learned from all of them"),
    ):
        assert words in unseen, words
    assert unseen.count("0.912") == 0 and "0.912" in known and "Pictures of known collections" in page
    assert 'id="plot-trade_off"' in unseen and "/visualizations/trade_off.png" in unseen
    assert "trade_off" not in known and "This model has not been tested on unseen kinds" not in page


@pytest.mark.parametrize("unseen", [None, {**UNSEEN_METRICS, "model_sha256": "0" * 64}], ids=["no file", "another's"])
def test_a_model_without_figures_of_kinds_left_out_says_so(client, figures, unseen):
    folder = figures(METRICS)
    (folder / "trade_off.png").write_bytes(b"\x89PNG picture")
    if unseen:
        (folder / "unseen_metrics.json").write_text(json.dumps(unseen))
    page = client.get("/performance").text
    assert "This model has not been tested on unseen kinds" in page
    assert "simswap" not in page and "trade_off.png" not in page and 'id="trade-off"' not in page


@pytest.mark.parametrize("unseen", ["{", "[]", {"n": 3}, {"tiers": None, "kinds": [{}], "families": [{}]}])
def test_the_performance_page_survives_damaged_figures_of_kinds_left_out(client, figures, unseen):
    folder = figures(METRICS)
    text = unseen if isinstance(unseen, str) else json.dumps({"model_sha256": MODEL, **unseen})
    (folder / "unseen_metrics.json").write_text(text)
    assert client.get("/performance").status_code == 200


def test_the_performance_page_shows_the_figures(client, figures):
    figures(METRICS)
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("0.912", "95% interval 0.902 to 0.922, n = 1,000", "4.2%", "5.7%", "portraits", "swaps", "n = 2,345"):
        assert words in page
    assert "3.3% (2.3% to 4.3%)" in page and "0.887 (0.877 to 0.897)" in page and "15.4%" in page
    assert "jpeg 50" in page and "0.853 (0.843 to 0.863)" in page and "8.1% (7.1% to 9.1%)" in page and MODEL in page
    assert "Run <code>python scripts/evaluate_audio.py</code>" in page
    figures({})
    assert "There are no plots yet" in client.get("/performance").text


def test_the_performance_page_shows_the_performance_on_voices(client, figures):
    folder = figures(METRICS)
    (folder / "voice_metrics.json").write_text(json.dumps(VOICE_METRICS))
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("0.881", "of 143 speakers", "3.7%", "wavenet &amp; co", "0.777 (0.767 to 0.787)"):
        assert words in page
    assert 'id="voice-kinds"' not in page and 'id="voice-pages"' not in page


def test_voices_have_figures_by_kind_page_and_generator_unaltered_and_altered(client, figures):
    def row(name, auc):
        return {"name": name, "n": 8, "n_speakers": 2, "auc": measured(auc)}

    stored = VOICE_METRICS["folds"]["generator"]["stored"] | {
        "kinds": [row("vocoder", 0.751)],
        "pages": [row("dittotts", 0.827), row("untested", 0.5)],
    }
    damaged = {"kinds": [row("vocoder", 0.673)], "pages": [row("dittotts", 0.711)]}
    folder = figures(METRICS)
    metrics = VOICE_METRICS | {"folds": {"generator": {"stored": stored, "damaged": damaged}}}
    (folder / "voice_metrics.json").write_text(json.dumps(metrics))
    rows = client.get("/performance").text.split('<h2 id="voices">')[1].split("<tr>")
    of = {name: next(text for text in rows if name in text) for name in ("vocoder", "dittotts", "untested", "wavenet")}
    assert "0.751" in of["vocoder"] and "0.673" in of["vocoder"]
    assert "0.827" in of["dittotts"] and "0.711" in of["dittotts"]
    assert "–" in of["untested"] and "–" in of["wavenet"]


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


def rate(low, high, n):
    return {"value": (low + high) / 2, "low": low, "high": high, "n": n}


def video_metrics(*, width=0.33, n_unseen=27, model=MODEL):
    """Return the metrics of 9 real and 18 fake videos; `width` of the interval of the rate of real ones."""
    clips = {
        "n": 27,
        "n_real": 9,
        "n_fake": 18,
        "n_unseen": n_unseen,
        "auc": rate(0.6, 0.9, 27),
        "false_alarms": rate(0.0, width, 9),
        "called_real": rate(0.06, 0.16, 18),
        "inconclusive": rate(0.3, 0.6, 27),
    }
    tracks = {**clips, "n": 400, "n_real": 66, "n_fake": 334, "n_unseen": 301, "auc": rate(0.7, 0.8, 400)}
    return {"model": {"sha256_h5": model}, "clips": clips, "tracks": tracks}


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.DEEPFAKE, "Of 9 real videos, 16.5% were wrongly called a deepfake (95% interval 0.0% to 33.0%)."),
        (Verdict.REAL, "Of 18 deepfake videos, 11.0% were wrongly called real"),
        (Verdict.INCONCLUSIVE, "Of 27 videos in our test, 45.0% were inconclusive"),
    ],
)
def test_a_video_has_figures_of_whole_videos_and_never_those_of_pictures(verdict, words):
    assert words in error_sentence(video_metrics(), str(verdict), MODEL, media="video")
    assert "not been measured" in error_sentence(METRICS, str(verdict), MODEL, media="video")


def test_videos_are_experimental_while_an_interval_is_wider_than_20_points():
    sentence = experimental_sentence(video_metrics(width=EXPERIMENTAL_WIDTH + 0.01), MODEL)
    assert "experimental: we measured only 9 real and 18 deepfake videos (n = 27)" in sentence
    assert experimental_sentence(video_metrics(width=EXPERIMENTAL_WIDTH - 0.01), MODEL) == ""
    wide = video_metrics(width=0.1)
    wide["clips"]["called_real"] = rate(0, EXPERIMENTAL_WIDTH + 0.01, 18)
    assert "experimental" in experimental_sentence(wide, MODEL)


def test_videos_of_known_collections_are_said_to_be_of_them():
    sentence = experimental_sentence(video_metrics(n_unseen=25), MODEL)
    assert "2 of them come from collections it was trained on" in sentence
    assert "trained on" not in experimental_sentence(video_metrics(n_unseen=27), MODEL)


@pytest.mark.parametrize(
    "metrics", [None, {}, {"model": {"sha256_h5": MODEL}}, video_metrics(width=0.1, model="7" * 64)], ids=range(4)
)
def test_videos_that_were_not_measured_with_this_model_are_experimental(metrics):
    assert "experimental" in experimental_sentence(metrics, MODEL) and "n = 0" in experimental_sentence(metrics, MODEL)


def test_an_interval_that_is_missing_counts_as_the_widest():
    metrics = video_metrics(width=0.1)
    metrics["clips"]["false_alarms"] = None
    assert "experimental" in experimental_sentence(metrics, MODEL)


def test_the_performance_page_shows_the_performance_on_videos(client, figures):
    folder = figures(METRICS)
    assert "scripts/evaluate_videos.py" in client.get("/performance").text
    (folder / "video_metrics.json").write_text(json.dumps(video_metrics()))
    page = client.get("/performance").text.replace("\N{NO-BREAK SPACE}", " ").split('<h2 id="videos">')[1]
    for words in ("Experimental.", "n = 27", ">Whole videos<", "16.5% (0.0% to 33.0%)", ">334<", ">301<"):
        assert words in page.split('<h2 id="voices">')[0]
    (folder / "video_metrics.json").write_text(json.dumps(video_metrics(width=0.1)))
    os.utime(folder / "video_metrics.json", ns=(1, 1))
    page = client.get("/performance").text.split('<h2 id="videos">')[1].split('<h2 id="voices">')[0]
    assert "xperimental" not in page and "Whole videos" in page


@pytest.mark.parametrize(
    "metrics",
    [
        "{",
        "[]",
        {},
        {"overall": None, "sources": [{}], "deliveries": {"a": None}, "clips": [], "tracks": {"n": 3}},
        {**METRICS, "overall": {}, "confusion": {"real": {}}},
    ],
)
def test_the_performance_page_survives_whatever_it_finds(client, figures, metrics):
    folder = figures(metrics)
    for name in ("video_metrics.json", "plots.json"):
        (folder / name).write_text((folder / "metrics.json").read_text())
    assert client.get("/performance").status_code == 200


def test_plots_of_the_metrics_are_drawn_and_those_without_figures_are_not(client, figures):
    figures(METRICS)
    page = client.get("/performance").text
    assert drawn_plots(page) == ["auc", "cm", "deliveries"]
    assert (
        page.count('role="img"') == page.count('<svg class="panel') == 3
        and "1,200 real pictures: 950 called real" in page
    )
    assert "/visualizations/" not in page


def test_a_png_file_is_offered_once_it_is_drawn(client, figures):
    folder = figures(METRICS)
    for name in ("cm", "roc", "secret"):
        (folder / f"{name}.png").write_bytes(b"\x89PNG picture")
    page = client.get("/performance").text
    assert 'href="/visualizations/cm.png" download' in page and "roc.png" not in page
    answer = client.get("/visualizations/cm.png")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", b"\x89PNG picture")
    assert client.get("/visualizations/secret.png").status_code == 404
    assert client.get("/visualizations/auc.png").status_code == 404


def drawn_plots(page):
    return re.findall(r'id="plot-(\w+)"', page)


def test_every_plot_of_the_shipped_figures_is_drawn_and_further_ones_on_request(client, figures, pytestconfig):
    folder = figures({})
    for name in ("metrics.json", "unseen_metrics.json", "plots.json"):
        (folder / name).write_bytes((pytestconfig.rootpath / "visualizations" / name).read_bytes())
    first, more = client.get("/performance").text.split("<summary>More plots")
    assert drawn_plots(first) == [
        "trade_off",
        "roc",
        "auc",
        "cm",
        "acc",
    ]  # the last four: of every detector of this kind
    assert drawn_plots(first + more) == [plot.name for plot in PLOTS]
    assert "all fakes AUC 0.9" in first and "ffhq" in first


def test_numbers_of_another_model_are_not_drawn(client, figures):
    folder = figures(METRICS)
    plots = {"roc": [{"name": "all fakes", "n": 9, "auc": measured(0.9), "curve": [[0, 0], [1, 1]]}], "roc_points": {}}
    for model, expected in ((MODEL, True), ("7" * 64, False), (None, False)):
        (folder / "plots.json").write_text(json.dumps({"model_sha256": model, **plots}))
        os.utime(folder / "plots.json", ns=(1, 1 + expected))
        assert ("roc" in drawn_plots(client.get("/performance").text)) is expected


def test_the_readme_of_the_plots_names_each(pytestconfig):
    page = (pytestconfig.rootpath / "visualizations" / "README.md").read_text()
    assert all(f"`{plot.name}.png`" in page for plot in PLOTS)


def test_new_figures_are_read_without_a_restart(figures):
    folder = figures({"split": "old"})
    assert read_metrics(folder) == {"split": "old"}
    figures({"split": "new"})
    os.utime(folder / "metrics.json", ns=(1, 1))
    assert read_metrics(folder) == {"split": "new"}
