import json
from pathlib import Path

import pytest
from pyarrow import parquet

from detector import cli
from detector.archive import chunks, folders
from detector.archive.chunks import CRASHED, count_outcomes, make_plan, scan_chunk, to_parquet
from detector.archive.folders import ArchiveError, ResultFolder, list_files, local_copies
from detector.reports.rows import SCAN_COLUMNS, ScanRow


@pytest.fixture
def pictures(tmp_path, face_jpeg):
    """Seven files: five pictures, a broken one and one that is no picture."""
    folder = tmp_path / "archive"
    for name in ("a.jpg", "b.jpg", "deep/c.jpg", "deep/d.jpg", "deep/er/e.jpg", ".hidden/f.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(face_jpeg)
    (folder / "broken.jpg").write_bytes(face_jpeg[:100])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_FILES", 2)
    monkeypatch.setattr(chunks, "MIN_CHUNKS", 1)


def rows(out):
    return parquet.read_table(out).to_pylist() if any(out.glob("*.parquet")) else []


class Killed(BaseException):
    """Stands for the end of a process in the midst of a file."""


def test_an_archive_becomes_one_row_a_file_and_a_second_run_adds_none(
    pictures, tmp_path, small_chunks, real_detector, capsys, monkeypatch
):
    monkeypatch.setattr(cli, "load_detector", lambda **_: real_detector)
    out, table = tmp_path / "scores", tmp_path / "table.csv"
    assert cli.main(["scan", str(pictures), "--out", str(out)]) == 1  # one is broken
    assert "6 files: " in capsys.readouterr().err
    found = rows(out)
    assert list(found[0]) == list(SCAN_COLUMNS)
    names = ["a.jpg", "b.jpg", "broken.jpg", "deep/c.jpg", "deep/d.jpg", "deep/er/e.jpg"]
    assert [row["path"] for row in found] == [str(pictures / name) for name in names]
    assert [row["media"] for row in found if row["error"] is None] == ["image"] * 5
    assert "damaged" in found[2]["error"] or "read" in found[2]["error"]
    said = real_detector.detect(pictures / "a.jpg")
    assert (found[0]["verdict"], found[0]["faces"]) == (said.verdict, 1)
    assert found[0]["probability"] == pytest.approx(said.probability, rel=1e-4)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    monkeypatch.setattr(cli, "load_detector", lambda **_: pytest.fail("There was nothing left to do."))
    assert cli.main(["scan", str(pictures), "--out", str(out)]) == 1
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == written and len(written) == 3
    assert not table.exists()


def test_a_stopped_scan_goes_on_at_its_chunk(pictures, tmp_path, small_chunks, real_detector):
    folder = ResultFolder(str(tmp_path / "scores"))
    plan = make_plan([str(pictures)], folder, every_s=1.0)
    seen = []

    def stop_in_the_second(row):
        seen.append(Path(row.path).name)
        if len(seen) == 3:
            raise Killed

    with pytest.raises(Killed):
        for number in plan.missing(folder):
            scan_chunk(real_detector, folder.url, number, report=stop_in_the_second)
    (pictures / "later.jpg").write_bytes(b"is not in the plan")
    assert make_plan([str(pictures)], folder, every_s=1.0) == plan
    assert plan.missing(folder) == [1, 2]
    assert scan_chunk(real_detector, folder.url, 1, is_stopping=lambda: True) is False
    for number in plan.missing(folder):
        assert scan_chunk(real_detector, folder.url, number)
    assert [row["path"] for row in rows(tmp_path / "scores")] == [
        path for path, _ in list_files(str(pictures), SUFFIX)
    ][:6]
    assert sum(count_outcomes(folder, plan).values()) == 6


SUFFIX = frozenset({".jpg"})


def test_a_file_that_kills_its_process_twice_is_left_out(pictures, tmp_path, small_chunks, real_detector, monkeypatch):
    folder = ResultFolder(str(tmp_path / "scores"))
    make_plan([str(pictures)], folder, every_s=1.0)
    detect = real_detector.detect

    def die_at_b(path, **how):
        if path.name == "b.jpg":
            raise Killed
        return detect(path, **how)

    monkeypatch.setattr(chunks._Notes, "__exit__", lambda *_: None)  # a killed process leaves its notes
    monkeypatch.setattr(real_detector, "detect", die_at_b)
    for is_repeated in (False, True):
        with pytest.raises(Killed):
            scan_chunk(real_detector, folder.url, 0, is_repeated=is_repeated)
    assert scan_chunk(real_detector, folder.url, 0, is_repeated=True)
    assert [row["error"] for row in rows(tmp_path / "scores")] == [None, CRASHED]


def test_a_file_is_not_blamed_for_a_stop_between_files(pictures, tmp_path, small_chunks, real_detector):
    folder = ResultFolder(str(tmp_path / "scores"))
    make_plan([str(pictures)], folder, every_s=1.0)
    answers = iter([False, True])
    assert scan_chunk(real_detector, folder.url, 0, is_repeated=True, is_stopping=lambda: next(answers)) is False
    assert scan_chunk(real_detector, folder.url, 0, is_repeated=True)
    assert [row["error"] for row in rows(tmp_path / "scores")] == [None, None]


def test_the_results_of_another_scan_are_not_mixed_in(pictures, tmp_path):
    folder = ResultFolder(str(tmp_path / "scores"))
    make_plan([str(pictures)], folder, every_s=1.0)
    with pytest.raises(ArchiveError, match="holds the results of another scan"):
        make_plan([str(pictures)], folder, every_s=2.0)
    with pytest.raises(ArchiveError, match="There are no pictures, videos or recordings in"):
        make_plan([str(tmp_path / "nothing")], ResultFolder(str(tmp_path / "other")), every_s=1.0)


def test_chunks_are_limited_in_files_and_bytes(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_FILES", 2)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 10)
    monkeypatch.setattr(chunks, "MIN_CHUNKS", 3)
    sizes = {"empty": 0, "a": 4, "b": 5, "large": 99, "c": 10, "d": 1}
    assert chunks._cut(sizes) == [["empty", "a"], ["b"], ["large"], ["c"], ["d"]]
    assert len(chunks._cut(dict.fromkeys("abcde", 0))) == 5  # a small archive is spread, too


def test_a_name_that_is_not_unicode_and_an_error_fit_into_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(to_parquet([ScanRow("caf\udce9.jpg", error="It is broken.")]))
    row = parquet.read_table(tmp_path / "a.parquet").to_pylist()[0]
    assert (row["path"], row["error"], row["probability"]) == ("caf\\udce9.jpg", "It is broken.", None)


def test_remote_files_are_copied_in_order_and_removed(tmp_path):
    store = ResultFolder("memory://copies")
    for number in range(9):
        store.write(f"{number}", str(number).encode())
    addresses = [f"memory://copies/{number}" for number in range(9)] + ["memory://copies/gone"]
    seen = []
    for copy in local_copies(addresses):
        seen.append(copy and copy.read_text())
        assert copy is None or len(list(copy.parent.iterdir())) <= folders.FETCHED_AHEAD + 2
    assert seen == [*"012345678", None]


def test_a_file_appears_as_a_whole(tmp_path, monkeypatch):
    folder = ResultFolder(str(tmp_path))
    folder.write_json("a", {"old": 1})
    monkeypatch.setattr(folders.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        folder.write_json("a", {"new": 1})
    assert json.loads((tmp_path / "a").read_text()) == {"old": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--celery"], "--celery needs --out"),
        (["--out", "x", "--csv", "y.csv"], "excludes --csv and --json"),
        (["--out", "x", "--celery"], "needs the address of Redis in the environment variable DEEPFAKE_BROKER_URL"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words, capsys, monkeypatch):
    monkeypatch.delenv("DEEPFAKE_BROKER_URL", raising=False)
    with pytest.raises(SystemExit):
        cli.main(["scan", "folder", *options])
    assert words in capsys.readouterr().err
