"""Clips through the server's chain, tracks put together from pictures, and the figures on both."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clips import make_video, pan_over
from PIL import Image
from score_rows import complete_row

from detector import metrics as estimates
from detector.models.calibration import Calibration
from detector.pipeline import load_detector
from detector.results import Reason
from scripts import evaluate_videos as command
from training import video_scoring
from training.manifests import Example
from training.tables import decide_row
from training.video_scoring import (
    CLIP,
    CLIP_COLUMNS,
    TRACK,
    cross_fit_thresholds,
    is_unseen,
    join_tracks,
    measure_videos,
    read_clips,
    read_picture_scores,
)

LINE = Calibration(1.0, 0.0, 0.2, 0.8)
COLUMNS = ("path", "label", "source", "generator", "group", "split", "kind", "family", "fold")


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 30)
        yield


def picture(path, logit, *, group="a", label=1, kind="swap", reasons="", fold=0, generator="swapper", unseen=True):
    return {
        "path": path,
        "label": label,
        "source": "films",
        "generator": generator,
        "group": group,
        "kind": kind,
        "fold": fold,
        "logit": logit,
        "reasons": reasons,
        "delivery": "stored",
        "unseen": unseen,
    }


def joined(pictures):
    return [decide_row(row, LINE) for row in join_tracks(pictures, LINE)]


def test_a_track_is_the_robust_mean_over_its_frames():
    (track,) = joined([picture(f"{i}.jpg", logit) for i, logit in enumerate([3, 3, 9, -20, 3, 3.4, 2.6, 3])])
    assert (track["form"], track["path"], track["frames"], track["unseen"]) == (TRACK, "a", 8, True)
    assert track["logit"] == pytest.approx(3) and track["verdict"] == "deepfake" and track["reasons"] == ""


def test_groups_are_split_by_label_and_generator_and_need_three_pictures_of_a_video():
    videos = [picture(f"{i}", 0, label=i % 2, generator="ab"[i % 2]) for i in range(6)]
    photographs = [picture(f"p{i}", 0, group="p", kind="photograph") for i in range(4)]
    pairs = [picture(f"q{i}", 0, group="q") for i in range(2)]
    rows = joined([*photographs, *pairs, *videos])
    assert sorted((row["group"], row["label"], row["frames"]) for row in rows) == [("a", 0, 3), ("a", 1, 3)]


def test_frames_that_fail_the_quality_gate_do_not_count():
    usable = [picture("0", 3), picture("1", 3, reasons=str(Reason.BETWEEN_THRESHOLDS))]
    blurred = [picture(str(i), 9, reasons=str(Reason.TOO_BLURRED)) for i in (2, 3)]
    (track,) = joined(usable + blurred)
    assert (track["frames"], track["logit"], track["verdict"]) == (2, 3, "inconclusive")
    assert track["reasons"] == Reason.TOO_FEW_FRAMES
    (track,) = joined([*blurred, picture("4", 9, reasons=str(Reason.NO_FACE))])
    assert (track["frames"], track["logit"], track["verdict"]) == (0, 9, "inconclusive")
    assert set(track["reasons"].split(";")) == {Reason.TOO_BLURRED, Reason.NO_FACE}


def test_a_track_is_unseen_if_all_its_frames_are():
    known = [picture("0", 3), picture("1", 3), picture("2", 3, unseen=False)]
    assert [track["unseen"] for track in joined(known)] == [False]


def test_what_a_network_has_learned_from_is_in_the_account_of_its_training_and_of_its_parts():
    before = {"sources": {"old fake": 2}}
    members = [{"sources": {"web clips fake": 1}, "before": before}, {"curve": [{"epoch": 1}]}]
    spec = SimpleNamespace(training={"sources": {"films real": 3}, "members": members})
    network = SimpleNamespace(engine=SimpleNamespace(spec=spec))
    assert [is_unseen(network, source) for source in ("films", "web clips", "old", "new")] == [False] * 3 + [True]
    spec.training = {}
    assert not is_unseen(network, "new")  # nothing is known of it


def row(label, verdict, *, form=CLIP, logit=0.0, source="s", group="g", unseen=True, reasons="", kind=""):
    return {
        "label": label,
        "verdict": verdict,
        "form": form,
        "logit": logit,
        "probability": float(LINE.probability(logit)),
        "source": source,
        "group": group,
        "unseen": unseen,
        "reasons": reasons,
        "kind": kind,
    }


def test_each_rate_has_its_own_n_and_an_interval():
    verdicts = {
        0: ["real", "real", "deepfake", "inconclusive"],
        1: ["real", "deepfake", "deepfake", "deepfake", "real"],
    }
    rows = [
        row(label, verdict, group=f"{label}{i}", logit=label + i / 10, kind="swap" if label else "")
        for label, each in verdicts.items()
        for i, verdict in enumerate(each)
    ]
    measured = measure_videos(rows)
    assert (measured["n"], measured["n_real"], measured["n_fake"], measured["auc"]["value"]) == (9, 4, 5, 1)
    shown = {name: (measured[name]["value"], measured[name]["n"]) for name in ("false_alarms", "called_real", "found")}
    assert shown == {"false_alarms": (0.25, 4), "called_real": (0.4, 5), "found": (0.6, 5)}
    assert measured["inconclusive"]["n"] == 9 and measured["inconclusive"]["value"] == pytest.approx(1 / 9)
    assert measured["false_alarms"]["low"] < 0.25 < measured["false_alarms"]["high"] - 0.2
    assert measured["n_unseen"] == 9 and [(each["kind"], each["n"]) for each in measured["kinds"]] == [("swap", 5)]
    assert measured["kinds"][0]["false_alarms"] is None and measured["kinds"][0]["auc"] is None
    assert measure_videos([*rows, row(0, "real", unseen=False)])["n_unseen"] == 9
    assert measure_videos([]) == {}


def test_thresholds_are_chosen_on_other_sources_and_keep_gate_reasons():
    rng = np.random.default_rng(0)
    tracks = [
        row(i % 2, "inconclusive", form=TRACK, logit=6 * (i % 2) - 3 + rng.normal(), source=f"s{i % 5}", group=str(i))
        for i in range(200)
    ]
    clip = row(1, "inconclusive", logit=4.0, source="other")
    blurred = row(1, "inconclusive", logit=4.0, source="other", reasons=str(Reason.TOO_BLURRED))
    decided = cross_fit_thresholds([*tracks, clip, blurred], replace(LINE, threshold_real=0.0, threshold_fake=1.0))
    by_clip = [each["verdict"] for each in decided if each["form"] == CLIP]
    assert by_clip == ["deepfake", "inconclusive"]
    # A source whose reals score like fakes cannot raise its own threshold.
    odd = [row(0, "", form=TRACK, logit=9.0, source="odd", group=f"o{i}") for i in range(30)]
    decided = cross_fit_thresholds([*tracks, *odd], LINE)
    assert {each["verdict"] for each in decided if each["source"] == "odd"} == {"deepfake"}


def test_the_sentence_on_thresholds_names_the_rate_that_so_few_real_tracks_leave_open(capsys):
    tracks = [row(i % 2, "real", form=TRACK, logit=i, source=f"s{i}", group=str(i)) for i in range(60)]
    video_scoring.print_own_thresholds([*tracks, row(1, "real")], LINE)
    printed = capsys.readouterr().out
    assert "rest on 30 real tracks: without a single false alarm the 95% interval would still reach 11.4%" in printed
    assert (
        "| of pictures | clips, n 1 | - | 1.000 " in printed
        and "| of other sources' tracks | tracks, n 60 |" in printed
    )


def write_csv(path, columns, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def test_scores_are_read_as_stored_and_with_their_types(tmp_path):
    rows = [picture("0", 1.5), {**picture("1", 2.5), "delivery": "blur"}, {**picture("2", 3.5), "fold": ""}]
    rows = [complete_row(**row) for row in rows]
    path = write_csv(tmp_path / "scores.csv", rows[0], [each.values() for each in rows])
    read = read_picture_scores(path)
    assert [(each["path"], each["label"], each["logit"], each["fold"]) for each in read] == [
        ("0", 1, 1.5, 0),
        ("2", 1, 3.5, None),
    ]


def test_clips_belong_to_the_fold_of_their_source(tmp_path):
    path = write_csv(tmp_path / "clips.csv", CLIP_COLUMNS, [["a.mp4", 1, "s", "g", "x"], ["b.mp4", 0, "new", "", "y"]])
    clips = read_clips(path, {"s": 3})
    assert [(clip.path, clip.label, clip.fold) for clip in clips] == [
        (tmp_path / "a.mp4", 1, 3),
        (tmp_path / "b.mp4", 0, None),
    ]
    with pytest.raises(SystemExit, match="There is no manifest"):
        read_clips(tmp_path / "none.csv", {})
    with pytest.raises(SystemExit, match="has 2"):
        read_clips(write_csv(path, CLIP_COLUMNS, [["a.mp4", 2, "s", "g", "x"]]), {})
    with pytest.raises(SystemExit, match="lacks one of the columns"):
        read_clips(write_csv(path, CLIP_COLUMNS[:2], [["a.mp4", 1]]), {})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--fold-models=a.onnx", "--faces=f.csv"], "needs {fold}"), (["--fold-models=a{fold}.onnx"], "needs --faces")],
)
def test_options_without_folds_are_refused(options, sentence, capsys):
    with pytest.raises(SystemExit):
        command.main(["--clips=c.csv", *options])
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.slow
def test_the_command_scores_clips_and_tracks_like_the_server(portrait, astronaut, tmp_path, capsys, monkeypatch):
    clip = make_video(pan_over(portrait, 30), options={"preset": "ultrafast"})
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(clip)
    clips = write_csv(
        tmp_path / "clips.csv", CLIP_COLUMNS, [["a.mp4", 0, "dfdc", "", "x"], ["b.mp4", 1, "t", "g", "y"]]
    )
    pictures = []
    for i in range(6):
        astronaut.crop((100 - 8 * i, 0, 400, 300)).save(tmp_path / f"{i}.png")
        label, source = i // 3, ("dfdc", "t")[i // 3]
        kind = "talking head" if label else "video frame"
        pictures.append([f"{i}.png", label, source, "g" if label else "camera", source, "train", kind, source, label])
    faces = write_csv(tmp_path / "faces.csv", COLUMNS, pictures)
    used = []
    load = video_scoring.load_picture_detector

    def watched(path, **options):
        used.append(path)
        return load(None, **options)

    monkeypatch.setattr(video_scoring, "load_picture_detector", watched)
    arguments = [f"--clips={clips}", f"--faces={faces}", f"--out={tmp_path / 'out'}"]
    command.main([*arguments, "--fold-models", str(tmp_path / "fold-{fold}.onnx")])
    assert used == [None, str(tmp_path / "fold-0.onnx"), str(tmp_path / "fold-1.onnx")]
    printed = capsys.readouterr().out
    assert "| clips | 1 | 1 | 1 |" in printed and "| tracks: talking head | 0 | 1 | 1 |" in printed
    assert "Thresholds of their own were not tried" in printed

    with open(tmp_path / "out" / "video_scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    detector = load_detector(threads=1)
    expected = detector.detect(tmp_path / "a.mp4")
    assert [(each["path"], each["form"], each["frames"]) for each in rows[:2]] == [
        ("a.mp4", CLIP, str(expected.frames_seen)),
        ("b.mp4", CLIP, str(expected.frames_seen)),
    ]
    assert float(rows[0]["logit"]) == pytest.approx(expected.logit, abs=1e-4) and rows[0]["verdict"] == expected.verdict
    logits = [detector.detect(np.asarray(Image.open(tmp_path / f"{i}.png"))).logit for i in range(3)]
    assert float(rows[2]["logit"]) == pytest.approx(sorted(logits)[1], abs=1e-4)  # of three, the median
    measured = json.loads((tmp_path / "out" / "video_metrics.json").read_text())
    assert measured["model"]["sha256_h5"] == detector.pictures.engine.model_sha256
    assert (measured["clips"]["n"], measured["tracks"]["n"], measured["clips"]["n_unseen"]) == (2, 2, 1)

    used.clear()
    command.main(arguments)
    measured = json.loads((tmp_path / "out" / "video_metrics.json").read_text())
    assert used == [None]


def test_an_unreadable_clip_ends_with_its_sentence(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    clips = write_csv(tmp_path / "clips.csv", CLIP_COLUMNS, [["a.mp4", 1, "s", "g", "x"]])
    with pytest.raises(SystemExit, match="plain text"):
        command.main([f"--clips={clips}", f"--out={tmp_path}"])
    assert not list(Path(tmp_path).glob("video_*"))


def test_rows_of_single_pictures_have_the_fields_of_an_example():
    example = Example(Path("a.jpg"), 1, "s", "g", "group", "train", kind="swap")
    assert video_scoring._groups_of([example] * 3) == [[example] * 3]
