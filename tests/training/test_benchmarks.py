"""The benchmark's turns, its media, and one round against a running server."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.media.images import read_image
from scripts import benchmark as command
from training import benchmarks
from training.benchmark_media import RECORDING_RATE_HZ, portrait_jpeg, tones, wave_file, with_comment
from training.benchmark_server import BenchmarkServer, descendants, running_server
from training.benchmarks import DETECT, UPLOAD, median_ratio, take_turns, time_uploads


def test_ways_take_turns_and_the_warm_up_is_not_timed():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = take_turns(ways, 2, warm_up=1, prepare=lambda name: calls.append(f"before {name}"))
    assert calls == ["before a", "a", "before b", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_preparation_is_not_timed():
    times = take_turns({"a": lambda: None}, 1, warm_up=0, prepare=lambda name: time.sleep(0.2))
    assert times["a"][0] < 100


def test_ratios_are_medians_over_rounds():
    times = {"whole": [10.0, 30.0, 8.0], "a": [4.0, 10.0, 1.0], "b": [1.0, 5.0, 1.0]}
    assert median_ratio(times, "whole", ["a", "b"]) == 2
    assert median_ratio(times, "whole", ["a"]) == 3


def test_a_comment_makes_another_file_of_the_same_pixels():
    portrait = portrait_jpeg()
    files = [with_comment(portrait, text) for text in ("1", "2")]
    assert len({portrait, *files}) == 3
    assert all(np.array_equal(read_image(data), read_image(portrait)) for data in files)
    assert read_image(portrait).shape == (1024, 1024, 3)


def test_a_recording_has_its_length():
    assert len(wave_file(tones(2))) == 44 + 2 * 2 * RECORDING_RATE_HZ


def test_each_round_uploads_a_file_of_its_own_and_detects_the_same_bytes():
    steps = []

    class Recorder:
        def upload(self, data):
            steps.append(("upload", data))

        def detect(self, data):
            steps.append(("detect", data))

        def wait_until_idle(self):
            steps.append(("wait", b""))

    times = time_uploads(Recorder(), Recorder(), b"\xff\xd8\xff\xd9", 2)
    rounds = [steps[start : start + 4] for start in range(0, len(steps), 4)]
    assert len(rounds) == benchmarks.WARM_UP_ROUNDS + 2
    assert all([name for name, _ in turns] == ["wait", "upload", "wait", "detect"] for turns in rounds)
    assert all(turns[1][1] == turns[3][1] for turns in rounds) and len({turns[1][1] for turns in rounds}) == len(rounds)
    assert {name: len(values) for name, values in times.items()} == {UPLOAD: 2, DETECT: 2}


@pytest.mark.slow
def test_a_busy_server_is_waited_for():
    busy = "import time; until = time.process_time() + 0.5\nwhile time.process_time() < until: pass\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", busy])
    try:
        time.sleep(0.1)
        BenchmarkServer(process, "", 0).wait_until_idle()
        used_s = sum(map(float, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        assert used_s / os.sysconf("SC_CLK_TCK") > 0.4
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_uploads_to_a_server_store_a_verdict(face_jpeg):
    with running_server(threads=1) as server:
        server.open_form()
        assert "probability" in server.upload_and_open(face_jpeg).lower()
        first_mb = server.peak_memory_mb()
        address = server.upload(with_comment(face_jpeg, "1"))
        assert "/analyses/" in address
        server.wait_until_idle()
        assert 50 < first_mb <= server.peak_memory_mb() < 2000
        processes = descendants(server.process.pid)
        assert len(processes) >= 2
    assert server.process.poll() is not None


@pytest.mark.slow
def test_the_command_prints_every_row_and_writes_its_figures(tmp_path, monkeypatch, capsys):
    stage = {"network": lambda: None, "whole": lambda: None}
    server = {"start to first verdict, s": 1.0, "peak memory of the worker, MB": 300.0}
    monkeypatch.setattr(benchmarks, "time_server", lambda *_: ({UPLOAD: [3.0], DETECT: [2.0]}, dict(server)))
    monkeypatch.setattr(benchmarks, "picture_stages", lambda *_: {"decode": lambda: None, "find": lambda: None} | stage)
    monkeypatch.setattr(benchmarks, "time_recordings", lambda *_: {"video": [9.0]})
    predict = {"predict": lambda: None, "predict, whole": lambda: None}
    monkeypatch.setattr(benchmarks, "student_stages", lambda *_: predict)
    monkeypatch.setattr(benchmarks, "KerasEngine", lambda path: None)
    command.main(["--rounds", "2", "--json", str(tmp_path / "figures.json")])
    printed = capsys.readouterr().out
    stages = ["decode", "find", "network", "whole", "video", UPLOAD, DETECT]
    stages += [f"{name}, in turns" for name in (*stage, *predict)]
    figures = [*server, "predict / network", "predict, whole / whole", "whole / (decode + find + network)"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in printed.splitlines() if line.startswith("| ")] == [
        "stage", *stages, "figure", *figures
    ]  # fmt: skip
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written) == {"medians_ms", *figures} and set(written["medians_ms"]) == set(stages)


@pytest.mark.slow
def test_training_speeds_are_positive_and_leave_the_cache_alone(monkeypatch, tmp_path, eagerly):
    from training import benchmark_training, manifests

    monkeypatch.setattr(
        benchmark_training,
        "TRAINING_SETTINGS",
        replace(benchmark_training.TRAINING_SETTINGS, input_size_px=64, batch=4),
    )
    monkeypatch.setattr(manifests, "CACHE", tmp_path / "cache")
    with eagerly():
        figures = benchmark_training.time_training(portrait_jpeg(), 2)
    assert len(figures) == 4 and not manifests.CACHE.exists()
    assert all(value > 0 for value in figures.values())
