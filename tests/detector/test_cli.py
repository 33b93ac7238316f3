import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import files

import numpy as np
import pytest
from PIL import Image
from project import ROOT
from tqdm import tqdm

from detector import cli
from detector.cli import main
from detector.media.images import read_image
from detector.provenance.findings import read_provenance
from detector.record import to_values
from detector.reports.bundle import build_bundle
from detector.reports.evidence import Evidence
from detector.reports.phrases import KNOWN_PHRASE
from detector.reports.rows import RATE_COLUMNS, SCAN_COLUMNS, ScanRow
from detector.reports.verification import Verification
from detector.results import (
    ErrorRate,
    Face,
    ModelError,
    PictureDetection,
    Reason,
    Segment,
    Track,
    TrackFrame,
    Verdict,
    VideoDetection,
    VoiceDetection,
)

HEADER = (
    "path,media,verdict,probability,logit,faces,reasons,real_share,real_low,real_high,real_n,"
    "fake_share,fake_low,fake_high,fake_n,rates_unseen,duration_s,sound_verdict,sound_probability,elapsed_ms,error"
)
RATES = (
    ErrorRate("real", 1204, 0.0213, 0.0142, 0.0311, 96, 160, (1100, 104)),
    ErrorRate("fake", 987, 0.05, 0.04, 0.0625, 96, 160, (50, 937)),
)


@pytest.fixture(scope="session")
def astronaut():
    """NASA's portrait of Eileen Collins, from scikit-image's wheel."""
    return next(path.locate() for path in files("scikit-image") if path.name == "astronaut.png")


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:  # Pillow would choose the format by the name
        Image.new("RGB", size, (200, 150, 100)).save(file, "PNG")
    return path


class WidthDetector:
    """Replaces the detector where rows matter and verdicts do not: wide pictures are fake."""

    def detect(self, source, **options):
        image = read_image(source)
        height, width = image.shape[:2]
        verdict = Verdict.DEEPFAKE if width > 100 else Verdict.REAL if width > 50 else Verdict.INCONCLUSIVE
        face = Face((1, 2, 30, 40), None, 0.99, (0, 0, 44, 44), 1.25, 0.123456789)
        return PictureDetection(
            verdict=verdict,
            probability=0.123456789,
            logit=-1.5,
            faces=(face, face) if verdict is not Verdict.INCONCLUSIVE else (),
            reasons=(Reason.NO_FACE, Reason.TOO_SMALL) if verdict is Verdict.INCONCLUSIVE else (),
            width_px=width,
            height_px=height,
            elapsed_ms=12.345,
            model_sha256="0" * 64,
            image=image,
            error_rates=RATES if width >= 200 else (),
        )


@pytest.fixture
def stand_in(monkeypatch):
    detector = WidthDetector()
    monkeypatch.setattr(cli, "load_detector", lambda *args, **options: detector)
    return detector


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path):
    """Two good pictures, one that is cut off, files that are no pictures, and links that form a circle."""
    top = tmp_path / "pictures"
    picture(top / "b.png", (200, 48))
    picture(top / "a" / "deep" / "c.JPG")  # a PNG in fact, which does not matter
    (top / "broken.jpg").write_bytes(picture(top / "b.png", (200, 48)).read_bytes()[:60])
    (top / "notes.txt").write_text("hello")
    picture(top / ".hidden.png")
    picture(top / ".git" / "d.png")
    (top / "a" / "README").write_text("hello")
    (top / "a" / "loop").symlink_to(top)
    (top / "a" / "nowhere").symlink_to(tmp_path / "nowhere")
    return top


def test_a_folder_becomes_a_table(stand_in, folder, tmp_path, capsys):
    table = tmp_path / "out.csv"
    assert main(["scan", str(folder), "--csv", str(table)]) == 1
    assert table.read_text(encoding="utf-8").splitlines()[0] == HEADER == ",".join(SCAN_COLUMNS)
    fake, broken, real = rows_of(table)  # a folder's own files, then the folders in it
    assert fake == {
        "path": str(folder / "b.png"),
        "media": "image",
        "verdict": "deepfake",
        "probability": "0.123457",
        "logit": "-1.5",
        "faces": "2",
        "reasons": "",
        **{"real_share": "0.0213", "real_low": "0.0142", "real_high": "0.0311", "real_n": "1204"},
        **{"fake_share": "0.0500", "fake_low": "0.0400", "fake_high": "0.0625", "fake_n": "987"},
        "rates_unseen": "false",
        **{"duration_s": "", "sound_verdict": "", "sound_probability": ""},
        "elapsed_ms": "12.3",
        "error": "",
    }
    assert real["path"] == str(folder / "a" / "deep" / "c.JPG") and real["verdict"] == "real"
    assert real["real_share"] == real["fake_n"] == real["rates_unseen"] == "" and real["elapsed_ms"] == "12.3"
    assert broken.pop("path") == str(folder / "broken.jpg") and "cannot be read" in broken.pop("error")
    assert set(broken.values()) == {""}
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        "3 files in" in err
        and "1 real, 1 deepfake, 0 inconclusive, 0 could not be checked. 1 could not be read." in err
    )
    assert err.endswith("Skipped in the folders: 4 with other suffixes.\n")


def common(probability):
    verdict = Verdict.DEEPFAKE if probability > 0.9 else Verdict.REAL
    return {
        "verdict": verdict, "probability": probability, "logit": 0.5, "reasons": (), "elapsed_ms": 1.0,
        "model_sha256": "0" * 64,
    }  # fmt: skip


def test_videos_and_recordings_have_rows_of_their_own():
    sound = VoiceDetection(**common(0.95), segments=(Segment(0, 1, 0.5, 0.95),), duration_s=2.5)
    frame = TrackFrame(0.0, 0, (1, 2, 30, 40), 0.5, 0.25, Verdict.REAL)
    track = Track((frame,), 0.5, 0.25, Verdict.REAL, {Verdict.REAL: 1.0})
    video = VideoDetection(
        **common(0.25), tracks=(track, track), width_px=4, height_px=3, duration_s=2.5, frames_seen=1, sound=sound
    )
    columns = ("media", "verdict", "probability", "faces", "duration_s", "sound_verdict", "sound_probability")
    of_video, of_sound = (dict(zip(SCAN_COLUMNS, ScanRow("a", seen).to_csv(), strict=True)) for seen in (video, sound))
    assert [of_video[name] for name in columns] == ["video", "real", "0.25", "2", "2.50", "deepfake", "0.95"]
    assert [of_sound[name] for name in columns] == ["audio", "deepfake", "0.95", "", "2.50", "", ""]
    assert ScanRow("a", video).to_line().split() == ["real", "0.250", "2", "faces", "a"]
    assert ScanRow("a", sound).to_line().split() == ["deepfake", "0.950", "voice", "a"]
    assert json.loads(ScanRow("a", video).to_json())["sound"]["segments"] == [to_values(one) for one in sound.segments]


def test_the_sampling_interval_reaches_the_detector_and_progress_the_bar(tmp_path, monkeypatch, capsys):
    class Watching(WidthDetector):
        def detect(self, source, *, every_s, progress):
            assert every_s == 2.5
            progress(0.4)
            return super().detect(source)

    monkeypatch.setattr(cli, "load_detector", lambda **options: Watching())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(cli, "tqdm", partial(tqdm, mininterval=0))
    argv = ["scan", str(picture(tmp_path / "a.png")), "--every", "2.5", "--csv", str(tmp_path / "out.csv")]
    assert main(argv) == 0
    assert "a.png 40%" in capsys.readouterr().err


def test_files_given_by_name_are_always_analysed(stand_in, tmp_path, capsys):
    plain = picture(tmp_path / "picture without a suffix")
    narrow = picture(tmp_path / ".hidden.bin", (40, 40))
    assert main(["scan", str(plain), str(narrow), str(plain)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # a file is analysed once
    assert lines[0].split() == ["real", "0.123", "2", "faces", *str(plain).split()]
    assert re.split(r"\s{2,}", lines[1])[:3] == [
        "could not be checked",
        "-",
        "0 faces",
    ]  # nothing was checked, so there is no number
    assert lines[1].endswith(f"{narrow} (no_face, too_small)")


@pytest.mark.parametrize(("verdict", "kinds"), [("deepfake", [0]), ("real", [1]), ("inconclusive", [0, 1])])
def test_a_line_states_how_often_such_a_verdict_is_wrong(verdict, kinds, stand_in, tmp_path, monkeypatch, capsys):
    detect, name = stand_in.detect, str(picture(tmp_path / "wide.png", (200, 48)))
    monkeypatch.setattr(stand_in, "detect", lambda path, **options: replace(detect(path), verdict=Verdict(verdict)))
    main(["scan", name])
    words = (
        f"2.1% (1.4% to 3.1%) of 1,204 reals of this size {KNOWN_PHRASE} scored this high",
        f"5.0% (4.0% to 6.2%) of 987 fakes of this size {KNOWN_PHRASE} scored this low",
    )
    assert capsys.readouterr().out.splitlines()[0].endswith(" - ".join([name, *(words[i] for i in kinds)]))


def test_rates_of_kinds_left_out_are_named_in_every_output(stand_in, tmp_path, monkeypatch, capsys):
    name, rates = str(picture(tmp_path / "wide.png", (200, 48))), tuple(replace(rate, unseen=True) for rate in RATES)
    detect = stand_in.detect
    monkeypatch.setattr(stand_in, "detect", lambda path, **options: replace(detect(path), error_rates=rates))
    main(["scan", name])
    assert "of 1,204 reals of this size from sources it had not seen scored" in capsys.readouterr().out
    main(["scan", name, "--csv", str(tmp_path / "out.csv"), "--json", str(tmp_path / "out.json")])
    assert rows_of(tmp_path / "out.csv")[0]["rates_unseen"] == "true"
    assert [rate["unseen"] for rate in json.loads((tmp_path / "out.json").read_text())["error_rates"]] == [True, True]


def test_reasons_are_joined_by_semicolons(stand_in, tmp_path):
    main(["scan", str(picture(tmp_path / "narrow.png", (40, 40))), "--csv", str(tmp_path / "out.csv")])
    (row,) = rows_of(tmp_path / "out.csv")
    assert row["reasons"] == "no_face;too_small" and row["faces"] == "0" and row["probability"] == "0.123457"


@pytest.mark.parametrize("kind", ["missing", "empty", "html"])
def test_an_unreadable_file_is_a_row_and_the_rest_goes_on(stand_in, kind, tmp_path):
    bad = tmp_path / "bad.jpg"
    if kind != "missing":
        bad.write_bytes(b"" if kind == "empty" else b"<!doctype html><p>hello")
    good = picture(tmp_path / "good.png")
    assert main(["scan", str(bad), str(good), "--csv", str(tmp_path / "out.csv")]) == 1
    first, second = rows_of(tmp_path / "out.csv")
    seen = {"missing": "No such file", "empty": "empty", "html": "HTML"}[kind]
    assert first["path"] == str(bad) and seen in first["error"] and first["probability"] == first["media"] == ""
    assert second["verdict"] == "real" and second["error"] == ""


def test_a_folder_that_cannot_be_entered_is_a_row(stand_in, tmp_path, monkeypatch):
    picture(tmp_path / "in" / "open" / "a.png")
    (tmp_path / "in" / "closed").mkdir()
    enter = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return enter(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert main(["scan", str(tmp_path / "in"), "--csv", str(tmp_path / "out.csv")]) == 1
    closed, opened = rows_of(tmp_path / "out.csv")
    assert closed["path"].endswith("closed") and "Permission denied" in closed["error"]
    assert opened["path"].endswith("a.png") and opened["verdict"] == "real"


def test_an_empty_folder_gives_an_empty_table(stand_in, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["scan", str(tmp_path / "empty"), "--csv", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines() == [HEADER]
    assert "0 files" in capsys.readouterr().err


ODD_NAMES = [
    "=1+1.png",
    "a,b.png",
    'quo"te\n,real,0.png',
    "\rback.png",
    "\x1b[31mred\x07.png",
    "käse 你.png",
    "\udcff.png",
]


def test_odd_names_break_neither_rows_nor_the_terminal(stand_in, tmp_path, capsys):
    names = sorted(ODD_NAMES)
    for name in names:
        picture(tmp_path / "odd" / name)
    assert main(["scan", str(tmp_path / "odd"), "--csv", str(tmp_path / "out.csv")]) == 0
    written = [os.path.basename(row["path"]) for row in rows_of(tmp_path / "out.csv")]
    assert written == [name.replace("\udcff", r"\udcff") for name in names]

    assert main(["scan", str(tmp_path / "odd"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == len(names) and all(line.isprintable() for line in lines)
    assert r"\x1b[31mred\x07.png" in out and r"quo\"te\n" not in out and r'quo"te\n,real' in out

    assert main(["scan", str(tmp_path / "odd"), "--json"]) == 0
    read_back = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert [os.path.basename(path) for path in read_back] == names


def test_json_holds_every_face(stand_in, folder, tmp_path, capsys):
    assert main(["scan", str(folder), "--json", "-"]) == 1
    fake, broken, real = map(json.loads, capsys.readouterr().out.splitlines())
    assert fake["faces"][1]["box"] == [1, 2, 30, 40] and fake["error"] is None and fake["width_px"] == 200
    assert fake["probability"] == 0.123456789 and fake["reasons"] == [] and fake["record_version"] == 3
    assert fake["error_rates"][1] == to_values(RATES[1]) and fake["error_rates"][1]["histogram"] == [50, 937]
    assert set(HEADER.split(",")) - set(broken) == set(HEADER.split(",")) - set(fake) == set(RATE_COLUMNS)
    assert broken["probability"] is None and "cannot be read" in broken["error"]
    both = ["--csv", str(tmp_path / "out.csv"), "--json", str(tmp_path / "out.jsonl")]
    assert main(["scan", str(folder), *both]) == 1
    assert capsys.readouterr().out == ""
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [fake, broken, real]
    assert len(rows_of(tmp_path / "out.csv")) == 3


def test_csv_goes_to_the_standard_output_too(stand_in, folder, capsys):
    main(["scan", str(folder), "--csv", "-"])
    assert capsys.readouterr().out.splitlines()[0] == HEADER


def test_rows_are_written_as_they_come_and_kept_when_stopped(stand_in, tmp_path, monkeypatch, capsys):
    names = [str(picture(tmp_path / f"{number}.png")) for number in range(4)]
    table, lines = tmp_path / "out.csv", tmp_path / "out.jsonl"
    detect_one, on_disk = stand_in.detect, []

    def stop_at_the_third(path, **options):
        on_disk.append((len(rows_of(table)), len(lines.read_text().splitlines())))
        if len(on_disk) == 3:
            raise KeyboardInterrupt
        return detect_one(path)

    monkeypatch.setattr(stand_in, "detect", stop_at_the_third)
    assert main(["scan", *names, "--csv", str(table), "--json", str(lines)]) == 130
    assert on_disk == [(0, 0), (1, 1), (2, 2)]
    assert [row["path"] for row in rows_of(table)] == names[:2]
    assert "2 of 4 files" in capsys.readouterr().err


def test_a_stopped_scan_goes_on_with_the_rows_of_its_files(stand_in, tmp_path, monkeypatch, capsys):
    """The last row of the table is cut off, and one row of the other file is missing."""
    names = [str(picture(tmp_path / "in" / f"{name}.png")) for name in ("a", "b\udc80", "c", "d")]
    table, lines = tmp_path / "out.csv", tmp_path / "out.jsonl"
    command = ["scan", str(tmp_path / "in"), "--csv", str(table), "--json", str(lines)]
    assert main(command) == 0
    whole, whole_lines = table.read_bytes(), lines.read_bytes()
    detect_one, analysed = stand_in.detect, []
    monkeypatch.setattr(stand_in, "detect", lambda path, **_: (analysed.append(path), detect_one(path))[1])
    table.write_bytes(whole[: whole.rindex(b"\r\n", 0, -2) + 30])
    lines.write_bytes(b"".join(whole_lines.splitlines(keepends=True)[:2]))
    capsys.readouterr()
    assert main([*command, "--resume"]) == 0
    assert "Left out: 2 of 4 files, which had a row." in capsys.readouterr().err
    assert analysed == names[2:]
    assert [row["path"] for row in rows_of(table)] == [name.replace("\udc80", "\\udc80") for name in names]
    assert [json.loads(line)["path"] for line in lines.read_text().splitlines()] == names


@pytest.mark.parametrize("start", ["", HEADER + "\r\n"], ids=["empty", "only the names of the columns"])
def test_a_scan_that_was_stopped_before_its_first_row_goes_on(stand_in, tmp_path, start):
    name, table = str(picture(tmp_path / "a.png")), tmp_path / "out.csv"
    table.write_text(start, newline="")
    assert main(["scan", name, "--csv", str(table), "--resume"]) == 0
    assert [row["path"] for row in rows_of(table)] == [name]


def test_earlier_errors_still_count_when_a_scan_goes_on(stand_in, folder, tmp_path):
    command = ["scan", str(folder), "--csv", str(tmp_path / "out.csv")]
    assert main(command) == main([*command, "--resume"]) == 1
    assert len(rows_of(tmp_path / "out.csv")) == 3


@pytest.mark.parametrize("content", [b"my notes", b"a,b\r\n1,2\r\n", b"[1]\n", b"{}\n", b"\xff\xfe\n"])
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_file_of_something_else_is_left_as_it_is(stand_in, tmp_path, capsys, content, option):
    (tmp_path / "out").write_bytes(content)
    name = str(picture(tmp_path / "a.png"))
    assert main(["scan", name, option, str(tmp_path / "out"), "--resume"]) == 2
    assert "does not hold the rows of a scan" in capsys.readouterr().err
    assert (tmp_path / "out").read_bytes() == content


@pytest.mark.parametrize(
    ("is_terminal", "options", "drawn"), [(True, [], True), (False, [], False), (True, ["--quiet"], False)]
)
def test_the_progress_bar_is_for_terminals(is_terminal, options, drawn, stand_in, tmp_path, monkeypatch, capsys):
    name = str(picture(tmp_path / "a.png"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    main(["scan", name, "--csv", str(tmp_path / "out.csv"), *options])
    err = capsys.readouterr().err
    assert ("1/1" in err) == drawn and ("1 file in" in err) == (not options)
    for rows_on_the_terminal in ([], ["--json"], ["--csv", "-"]):
        main(["scan", name, *rows_on_the_terminal, *options])
        assert "1/1" not in capsys.readouterr().err


def test_options_reach_the_detector(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "load_detector", lambda **options: asked.append(options) or WidthDetector())
    main(["scan", str(picture(tmp_path / "a.png")), "--engine", "keras", "--threads", "2"])
    main(["scan", str(tmp_path / "a.png")])
    assert asked == [{"engine": "keras", "threads": 2}, {"engine": "onnx", "threads": None}]


@pytest.mark.parametrize(
    ("argv", "seen"),
    [
        ([], "COMMAND"),
        (["scan"], "PATH"),
        (["scan", "a", "--engine", "torch"], "torch"),
        (["scan", "a", "--threads", "0"], "'0' is not a whole number of at least 1"),
        (["scan", "--json", "face.jpg", "other.jpg"], "'face.jpg' has the suffix of an input file"),
        (["scan", "a", "--csv", "face.PNG"], "'face.PNG' has the suffix of an input file"),
        (["scan", "a", "--csv", "-", "--json"], "both write to '-'"),
        (["scan", "a", "--resume"], "--resume adds rows to the file of --csv or --json"),
        (["scan", "a", "--resume", "--json"], "--resume adds rows to the file of --csv or --json"),
        (["scan", "a", "--every", "nan"], "'nan' is not a number of seconds from 0.04 to 3600"),
        (["scan", "a", "--every", "often"], "'often' is not a number of seconds"),
        (["verify"], "BUNDLE"),
        (["verify", "a", "--csv", "b"], "--csv"),
    ],
)
def test_wrong_options_end_with_2_and_a_word(argv, seen, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2 and seen in capsys.readouterr().err


def test_a_table_that_cannot_be_written_is_reported(stand_in, tmp_path, capsys):
    name = str(picture(tmp_path / "a.png"))
    assert main(["scan", name, "--csv", str(tmp_path / "nowhere" / "out.csv")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["scan", name, "--csv", "/dev/full"]) == 2
    assert "No space left" in capsys.readouterr().err


def test_without_a_model_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    def refuse(**options):
        raise ModelError("There is no model.")

    monkeypatch.setattr(cli, "load_detector", refuse)
    table = tmp_path / "out.csv"
    table.write_text("yesterday's rows")
    assert main(["scan", str(picture(tmp_path / "a.png")), "--csv", str(table)]) == 2
    assert "There is no model." in capsys.readouterr().err and table.read_text() == "yesterday's rows"


def python(*argv, **options):
    return subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_the_real_detector_classifies_a_portrait(astronaut, tmp_path):
    (tmp_path / "cut.png").write_bytes(astronaut.read_bytes()[:5000])
    done = python("-m", "detector", "scan", astronaut, tmp_path, "--csv", tmp_path / "out.csv")
    assert done.returncode == 1, done.stderr
    portrait, cut = rows_of(tmp_path / "out.csv")
    assert portrait["verdict"] in list(Verdict) and portrait["media"] == "image" and portrait["error"] == ""
    assert 0 <= float(portrait["probability"]) <= 1 and np.isfinite(float(portrait["logit"]))
    assert int(portrait["faces"]) >= 1 and float(portrait["elapsed_ms"]) > 0
    assert "5,000 bytes" in cut["error"] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "program"), [({}, "deepfake-detector"), ({"program": "python -m detector"}, "python -m detector")]
)
def test_messages_begin_with_the_command_as_it_was_typed(options, program, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--help"], **options)
    assert capsys.readouterr().out.startswith(f"usage: {program} ")
    assert main(["verify", str(tmp_path / "nothing.zip")], **options) == 2
    assert capsys.readouterr().err.startswith(f"{program}: ")


LOADED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module("detector", run_name="__main__")
except SystemExit as end:
    print(end.code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--version"], "detector 0."),
        (["--help"], "scan"),
        (["scan", "--help"], "--csv"),
        (["verify", "--help"], "--file"),
    ],
)
def test_help_loads_no_tensorflow(argv, shown):
    *lines, last = python("-c", LOADED, "detector", *argv, check=True).stdout.splitlines()
    code, *modules = last.split()
    assert code == "0" and shown in "\n".join(lines) and not {"tensorflow", "keras"} & set(modules)


@pytest.mark.slow
def test_tensorflow_stays_out(astronaut):
    code, *modules = python("-c", LOADED, "detector", "scan", astronaut, check=True).stdout.splitlines()[-1].split()
    assert code == "0" and "numpy" in modules and not {"tensorflow", "keras", "flask"} & set(modules)


@pytest.mark.slow
def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "detector", "scan", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr and done.returncode == 2


@pytest.fixture
def evidence(astronaut, real_detector, monkeypatch):
    """A portrait with its verdict; `verify` uses the same detector."""
    monkeypatch.setattr(cli, "load_detector", lambda **options: real_detector)
    data = astronaut.read_bytes()
    detection = real_detector.detect(data)
    provenance = read_provenance(data, image=detection.image)
    return Evidence(data=data, detection=detection, provenance=provenance, spec=real_detector.pictures.engine.spec)


def test_a_bundle_is_the_same_or_its_differences_are_listed(evidence, tmp_path, capsys):
    path, original = tmp_path / "bundle.zip", tmp_path / "original.png"
    path.write_bytes(build_bundle(evidence, include_original=False))
    original.write_bytes(evidence.data)
    assert main(["verify", str(path), "--file", str(original)]) == 0
    first, *matches, verdict, probability = capsys.readouterr().out.splitlines()
    assert "- The original is the file that was checked: its SHA-256 is the same." in matches
    assert first == "same (logits within 0.001, boxes within 1 pixel)"
    assert verdict and f"(logit {evidence.detection.logit:.6f})" in probability

    original.write_bytes(evidence.data + b"\0")
    assert main(["verify", str(path), "--file", str(original)]) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "differs:" and lines[0].startswith("- SHA-256 of the original: ") and lines[-2] == verdict
    assert lines.index("the same:") < lines.index(next(line for line in matches if "The model is" in line))


def test_many_differences_are_counted(evidence, tmp_path, monkeypatch, capsys):
    path = tmp_path / "bundle.zip"
    path.write_bytes(build_bundle(evidence))
    lines = tuple(f"{number}\x1b" for number in range(23))
    monkeypatch.setattr(cli, "verify_bundle", lambda *arguments, **options: Verification(lines, None))
    assert main(["verify", str(path)]) == 1
    first, *shown, last = capsys.readouterr().out.splitlines()
    assert len(shown) == 20 and shown[0] == r"- 0\x1b" and last == "- and 3 more"


@pytest.mark.parametrize(
    ("content", "seen"),
    [(None, "No such file"), (b"", "not an evidence bundle"), (b"PK\3\4 hello", "not an evidence bundle")],
)
def test_a_file_that_is_no_bundle_ends_with_2_and_a_sentence(content, seen, evidence, tmp_path, capsys):
    path = tmp_path / "bundle\x1b.zip"
    if content is not None:
        path.write_bytes(content)
    assert main(["verify", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and seen in err and "\x1b" not in err


def test_a_bundle_without_its_original_needs_the_file_option(evidence, tmp_path, capsys):
    path = tmp_path / "bundle.zip"
    path.write_bytes(build_bundle(evidence, include_original=False))
    assert main(["verify", str(path)]) == 2 and "--file" in capsys.readouterr().err


def test_a_file_without_end_is_not_read(evidence, tmp_path, capsys):
    path = tmp_path / "bundle.zip"
    path.write_bytes(build_bundle(evidence))
    for arguments in (["/dev/zero"], [str(path), "--file", "/dev/zero"]):
        assert main(["verify", *arguments]) == 2 and "not a regular file" in capsys.readouterr().err
