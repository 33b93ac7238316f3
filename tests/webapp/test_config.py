import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from project import ROOT

from webapp.config import PREFIX, SETTINGS, StartupError, load_settings, settings_table
from webapp.detector_thread import DetectorThread, warm_up
from webapp.instance import load_or_create_secret_key, startup_lock, write_atomically


def test_environment_counts_over_default_and_override_over_both():
    environment = {"DEEPFAKE_MAX_UPLOAD_MB": "5", "DEEPFAKE_COOKIE_SECURE": "yes", "DEEPFAKE_THREADS": ""}
    settings = load_settings({"MAX_UPLOAD_MB": 7}, environment)
    assert (settings["MAX_UPLOAD_MB"], settings["COOKIE_SECURE"], settings["THREADS"]) == (7, True, 0)
    assert load_settings({}, {})["MAX_UPLOAD_MB"] == 20


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAX_UPLOAD_MB", "0", "whole number from 1 to 200, not '0'"),
        ("MAX_UPLOAD_MB", "20MB", "not '20MB'"),
        ("MAX_UPLOAD_MB", "²", "not '²'"),
        ("THREADS", "-1", "whole number"),
        ("COOKIE_SECURE", "maybe", "true or false, not 'maybe'"),
        ("SECRET_KEY", "short", "at least 16 characters, not 5"),
        ("DATABASE_URL", "hunter2@nowhere", "must be a database address"),
    ],
)
def test_a_bad_value_is_named_in_a_sentence(name, value, words):
    with pytest.raises(StartupError, match=f"^{PREFIX}{name} .*{words}.*\\.$") as refusal:
        load_settings({}, {PREFIX + name: value})
    assert "hunter2" not in str(refusal.value)


def test_an_unknown_override_is_refused():
    with pytest.raises(StartupError, match="no setting MAX_UPLOAD"):
        load_settings({"MAX_UPLOAD": 1})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"DATABASE_URL": "nosuch://host/name"}, "DEEPFAKE_DATABASE_URL cannot be used"),
        ({"DATABASE_URL": "sqlite:////nowhere/at/all.sqlite"}, "The database cannot be used"),
        ({"DATABASE_URL": f"sqlite:///{__file__}"}, "The database cannot be used"),
        ({"STORAGE_URL": "nosuch://bucket"}, "DEEPFAKE_STORAGE_URL cannot be used"),
        ({"INSTANCE_PATH": __file__}, "cannot be created"),
    ],
)
def test_what_cannot_be_reached_is_named_in_a_sentence(settings, words, make_app):
    with pytest.raises(StartupError, match=words):
        make_app(**settings)


def test_settings_table_has_a_row_for_each_setting():
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [PREFIX + setting.name for setting in SETTINGS]
    assert all(setting.help in row and setting.default in row for setting, row in zip(SETTINGS, rows, strict=True))


def test_secret_key_is_made_once_and_private(make_app, tmp_path):
    folder = tmp_path / "new"
    app = make_app(INSTANCE_PATH=folder)
    assert len(app.secret_key) == 64 and make_app(INSTANCE_PATH=folder).secret_key == app.secret_key
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    own = "a key of my own choice"
    assert make_app(SECRET_KEY=own).secret_key == own


@pytest.mark.slow
def test_workers_that_start_together_agree(tmp_path):
    """Eight processes find an empty instance folder at once: one key, one schema, nobody fails."""
    script = f"""if True:
        import multiprocessing
        from webapp import create_app
        workers = multiprocessing.get_context("fork")
        start, keys = workers.Barrier(8), workers.SimpleQueue()
        def work():
            start.wait()
            keys.put(create_app({{"INSTANCE_PATH": {str(tmp_path / "new")!r}}}).secret_key)
        processes = [workers.Process(target=work) for _ in range(8)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0] * 8
        assert len({{keys.get() for _ in processes}}) == 1
    """
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_only_one_keeps_the_others_waiting(tmp_path):
    inside, most = 0, 0

    def enter(_):
        nonlocal inside, most
        with startup_lock(tmp_path):
            inside += 1
            most = max(most, inside)
            os.sched_yield()
            load_or_create_secret_key(tmp_path)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(40)))
    assert most == 1


def test_write_whole_leaves_no_half_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_warm_up_says_why_there_is_no_model(app, monkeypatch):
    app.extensions["detector"] = DetectorThread()
    monkeypatch.setattr("detector.pictures.detect.MODEL_FILES", {"onnx": ROOT / "models" / "missing.onnx"})
    with pytest.raises(StartupError, match=r"missing\.onnx is missing"):
        warm_up(app)
