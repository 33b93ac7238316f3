"""Timings of every stage from a file to a verdict, of uploads and start-up, and the worker's memory."""

from __future__ import annotations

import io
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from detector.media.images import read_image
from detector.models.engines import KerasEngine
from detector.pictures.detect import MODEL_FILES, PictureDetector
from detector.pictures.faces import FaceFinder, crop_faces, crop_square
from detector.pipeline import Detector, load_detector
from training.benchmark_media import (
    PORTRAIT_SIDE_PX,
    RECORDING_S,
    VIDEO_S,
    clip_mp4,
    portrait_jpeg,
    tones,
    wave_file,
    with_comment,
)
from training.benchmark_server import BenchmarkServer, running_server
from training.tables import format_row

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

WARM_UP_ROUNDS = 5  # not timed
TRAINING_STEPS = 10
RECORDING_ROUNDS = 5  # each takes a hundred times as long as a picture
UPLOAD, DETECT = "upload to stored verdict, in turns", "detect, in turns with uploads"

Times = dict[str, list[float]]  # ms, round by round


@dataclass(frozen=True)
class BenchmarkOptions:
    """The command line of benchmark.py.

    Attributes:
        rounds: timed rounds of the picture's stages and of the uploads
        threads: of the networks, in this process and in the server's worker; by default every core
        recordings: videos and recordings to time instead of those made on the spot
        runtimes: also time the network in other runtimes
        training: also time training steps
        json: also write the figures to this file
    """

    rounds: int = 50
    threads: int | None = None
    recordings: tuple[Path, ...] = ()
    runtimes: bool = False
    training: bool = False
    json: Path | None = None


def benchmark(options: BenchmarkOptions) -> None:
    """Time everything, print the tables and write the JSON file."""
    data = portrait_jpeg()
    times, figures = time_server(options, data)  # before TensorFlow takes memory
    detector, finder = load_detector(threads=options.threads), FaceFinder(threads=options.threads)
    stages = picture_stages(detector.pictures, finder, data)
    staged = take_turns(stages, options.rounds)  # as in the server, which never loads TensorFlow
    times = staged | time_recordings(detector, options.recordings, data) | times
    others = student_stages(KerasEngine(MODEL_FILES["keras"]), data)
    if options.runtimes:
        others |= runtime_stages(detector.pictures, options.threads)
    turns = take_turns({"network": stages["network"], "whole": stages["whole"], **others}, options.rounds)
    times |= {f"{name}, in turns": values for name, values in turns.items()}
    figures |= {
        "predict / network": median_ratio(turns, "predict", ["network"]),
        "predict, whole / whole": median_ratio(turns, "predict, whole", ["whole"]),
        "whole / (decode + find + network)": median_ratio(staged, "whole", ["decode", "find", "network"]),
    }
    if options.training:
        from training.benchmark_training import time_training  # imports Keras

        figures |= time_training(data, TRAINING_STEPS)

    spec = detector.pictures.engine.spec
    picture = f"{PORTRAIT_SIDE_PX} x {PORTRAIT_SIDE_PX} JPEG of {len(data) / 1e3:.0f} kB"
    print(f"{spec.network} at {spec.face.size_px} px, {picture}, {options.rounds} rounds")
    print(f"OpenVINO {version('openvino')}, {options.threads or os.cpu_count()} threads")
    print_times(times)
    print_figures(figures)
    if options.json:
        medians = {name: statistics.median(values) for name, values in times.items()}
        options.json.write_text(json.dumps({"medians_ms": medians, **figures}, indent=1) + "\n")


def time_server(options: BenchmarkOptions, data: bytes) -> tuple[Times, dict[str, float]]:
    """Time the start of the server up to the first result page, and its uploads in turns with `detect`.

    Returns:
        The times of `time_uploads`; and the seconds from the start of gunicorn's process to the first result page, the
        worker's peak memory after that page and after all uploads, and the median ratio of an upload to `detect`.
    """
    with running_server(threads=options.threads) as server:
        server.open_form()
        server.upload_and_open(data)
        seconds = time.perf_counter() - server.started
        first_peak_mb = server.peak_memory_mb()
        times = time_uploads(server, load_detector(threads=options.threads), data, options.rounds)
        peak_mb = server.peak_memory_mb()
    return times, {
        "start to first verdict, s": seconds,
        "peak memory of the worker, MB": first_peak_mb,
        f"peak memory of the worker after {options.rounds} rounds of uploads, MB": peak_mb,
        "upload to stored verdict / detect": median_ratio(times, UPLOAD, [DETECT]),
    }


def time_uploads(server: BenchmarkServer, detector: Detector, data: bytes, rounds: int) -> Times:
    """Time uploads to the warm worker in turns with `Detector.detect` on the same bytes in this process.

    An upload is timed from the browser's request, on a new connection, to the redirect that follows the commit of its
    verdict; the form and the result page are not part of it. Each round has a file of its own, since stored bytes are
    shared. Each turn waits until the server is idle.
    """
    numbers = count()
    sent = data

    def upload() -> None:
        server.upload(sent)

    def detect() -> None:
        detector.detect(sent)

    def prepare(name: str) -> None:
        nonlocal sent
        if name == UPLOAD:
            sent = with_comment(data, f"benchmark {next(numbers)}")
        server.wait_until_idle()

    return take_turns({UPLOAD: upload, DETECT: detect}, rounds, prepare=prepare)


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = WARM_UP_ROUNDS,
    prepare: Callable[[str], object] | None = None,
) -> Times:
    """Run each way once a round.

    Args:
        ways: functions to time, by name.
        rounds: timed rounds.
        warm_up: rounds before them.
        prepare: called with the name of a way before it runs, untimed.

    Returns:
        The times of each way in ms, round by round, without the warm-up.
    """
    times: Times = {name: [] for name in ways}
    for turn in range(warm_up + rounds):
        for name, way in ways.items():
            if prepare:
                prepare(name)
            started = time.perf_counter()
            way()
            if turn >= warm_up:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def median_ratio(times: Times, name: str, parts: list[str]) -> float:
    """Return the median over the rounds of a way's time over the summed time of others."""
    rounds = zip(times[name], *(times[part] for part in parts), strict=True)
    return float(statistics.median(whole / sum(others) for whole, *others in rounds))


def picture_stages(detector: PictureDetector, finder: FaceFinder, data: bytes) -> dict[str, Callable[[], object]]:
    """Return the stages from a picture's bytes to its verdict, each alone, and the whole `PictureDetector.detect`."""
    image = read_image(data)
    spec = detector.engine.spec
    squares = [crop_square(finder.find_faces(image)[0].box, spec.face.crop_margin, image.shape[1], image.shape[0])]
    crops = crop_faces(image, squares, spec.face.size_px)
    return {
        "decode": lambda: read_image(data),
        "find": lambda: finder.find_faces(image),
        "crop": lambda: crop_faces(image, squares, spec.face.size_px),
        "network": lambda: detector.engine.run(crops),
        "whole": lambda: detector.detect(data),
    }


def time_recordings(detector: Detector, paths: tuple[Path, ...], portrait: bytes) -> Times:
    """Time `Detector.detect` on videos and recordings; without paths, on those made on the spot."""
    recordings: dict[str, Path | bytes] = {path.name: path for path in paths} or {
        f"video, {VIDEO_S} s of 1080p with sound": clip_mp4(read_image(portrait)),
        f"recording, {RECORDING_S} s": wave_file(tones(RECORDING_S)),
    }
    ways = {name: partial(detector.detect, source) for name, source in recordings.items()}
    return take_turns(ways, RECORDING_ROUNDS, warm_up=1)


def student_stages(engine: KerasEngine, data: bytes) -> dict[str, Callable[[], object]]:
    """Return the student projects' `predict` alone and from the file on, with the same network."""
    side = engine.spec.face.size_px

    def prepare() -> np.ndarray:
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side))
        return np.asarray(picture, np.float32)[None]

    batch = prepare()
    return {
        "predict": lambda: engine.network.predict(batch, verbose=0),
        "predict, whole": lambda: engine.network.predict(prepare(), verbose=0),
    }


def runtime_stages(detector: PictureDetector, threads: int | None) -> dict[str, Callable[[], object]]:
    """Return the exported network in ONNX Runtime, and in OpenVINO at the precision of its own choice."""
    import onnxruntime
    import openvino

    side = detector.engine.spec.face.size_px
    batch = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.float32)
    settings = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    own_precision = openvino.compile_model(MODEL_FILES["onnx"], "CPU", settings)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(MODEL_FILES["onnx"], options)
    name = session.get_inputs()[0].name
    return {
        "openvino, own precision": lambda: own_precision([batch]),
        "onnxruntime": lambda: session.run(None, {name: batch}),
    }


def print_times(times: Times) -> None:
    """Print a row for each way: median, fastest, slowest, and how often it would run in a second."""
    print("| stage | median ms | fastest | slowest | a second |\n|---|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        numbers = f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{1e3 / median:.0f}"
        print(format_row(name, *numbers))


def print_figures(figures: Mapping[str, float]) -> None:
    """Print a row for each figure."""
    print("| figure | value |\n|---|---|")
    for name, value in figures.items():
        print(format_row(name, f"{value:.2f}"))
