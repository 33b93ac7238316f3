"""Time every stage of judging a picture, a video and a recording, the start, and the student projects' way.

    python scripts/benchmark.py
    python scripts/benchmark.py --rounds 100 --threads 1
    python scripts/benchmark.py --recordings CLIP.mp4 VOICE.wav        # these, instead of the ones made on the spot

The picture is a 1-megapixel JPEG with one face, the video 10 s of 1080p in which it moves, with a sound, the recording
a minute of tones; all are made on the spot. The student projects' way is theirs to the letter:
open, shrink the whole picture to the network's input, `keras.Model.predict`, no face finding. Our stages are timed
before TensorFlow is loaded, as in the server; for the ratios both ways then take turns in one process, so that they
hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from functools import partial
from http.cookiejar import CookieJar
from importlib.metadata import files, version
from pathlib import Path
from urllib.error import URLError
from urllib.request import HTTPCookieProcessor, Request, build_opener

import av
import numpy as np
from PIL import Image

from detector.media.images import encode_jpeg, read_image
from detector.models.engines import KerasEngine
from detector.pictures.detect import MODEL_FILES, PictureDetector
from detector.pictures.faces import FaceFinder, crop_faces, crop_square
from detector.pipeline import load_detector
from training.manifests import ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SIDE_PX = 1024  # of the test picture
WARM_UP = 5  # rounds before the clock counts
START_TIMEOUT_S = 60
VIDEO_SIZE_PX = (1920, 1080)
VIDEO_S, FRAMES_PER_S = 10, 25
RECORDING_S, SAMPLE_RATE_HZ = 60, 16_000
RECORDING_ROUNDS = 5  # each takes a hundred times as long as a picture


def portrait_jpeg() -> bytes:
    """Return the NASA portrait that scikit-image carries, 1 megapixel, as JPEG."""
    path = next(file for file in files("scikit-image") if file.name == "astronaut.png").locate()
    picture = Image.fromarray(read_image(Path(path))).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return encode_jpeg(np.asarray(picture), quality=92)


def clip_mp4(portrait: np.ndarray) -> bytes:
    """Return a video in which a portrait (H, W, 3) uint8 RGB moves to and fro, with the sound of `tones`."""
    width, height = VIDEO_SIZE_PX
    scaled = np.asarray(Image.fromarray(portrait).resize((height, height)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_S, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for number in range(VIDEO_S * FRAMES_PER_S):
            frame = np.full((height, width, 3), 90, np.uint8)
            left = round((width - height) * (0.5 + 0.5 * np.sin(number / FRAMES_PER_S)))
            frame[:, left : left + height] = scaled
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        samples = (tones(VIDEO_S) * 32767).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate = SAMPLE_RATE_HZ
        resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ, frame_size=1024)
        for part in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return buffer.getvalue()


def tones(seconds: int) -> np.ndarray:
    """Return a gliding tone with overtones and pauses, (T,) float32 in [-1, 1]: as much work as a voice."""
    times_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(3 * times_s)) / SAMPLE_RATE_HZ
    voiced = sum(np.sin(order * phase) / order for order in range(1, 20))
    return (0.2 * voiced * (np.sin(4 * times_s) > -0.6)).astype(np.float32)


def wave_file(waveform: np.ndarray) -> bytes:
    """Return a WAV file of a waveform (T,) float32."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((waveform * 32767).astype(np.int16).tobytes())
    return buffer.getvalue()


def take_turns(ways: dict[str, Callable[[], object]], rounds: int, *, warm_up: int = WARM_UP) -> dict[str, list[float]]:
    """Run each way once a round; returns their times in ms, round by round, without those of warming up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= warm_up:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def stages(judge: PictureDetector, finder: FaceFinder, data: bytes) -> dict[str, Callable[[], object]]:
    """Return the stages of judging one picture, each alone, and the whole."""
    image = read_image(data)
    spec = judge.engine.spec
    squares = [crop_square(finder.find_faces(image)[0].box, spec.face.crop_margin, image.shape[1], image.shape[0])]
    crops = crop_faces(image, squares, spec.face.size_px)
    return {
        "decode": lambda: read_image(data),
        "find": lambda: finder.find_faces(image),
        "crop": lambda: crop_faces(image, squares, spec.face.size_px),
        "network": lambda: judge.engine.run(crops),
        "whole": lambda: judge.detect(data),
    }


def students_way(engine: KerasEngine, data: bytes) -> dict[str, Callable[[], object]]:
    """Return `predict` alone and from the file on, with the same network."""
    side = engine.spec.face.size_px

    def prepare() -> np.ndarray:
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side))
        return np.asarray(picture, np.float32)[None]

    batch = prepare()
    return {
        "predict": lambda: engine.network.predict(batch, verbose=0),
        "predict, whole": lambda: engine.network.predict(prepare(), verbose=0),
    }


def other_runtimes(judge: PictureDetector, threads: int | None) -> dict[str, Callable[[], object]]:
    """Return the same exported file in ONNX Runtime, and in OpenVINO at the precision it would choose itself."""
    import onnxruntime
    import openvino

    side = judge.engine.spec.face.size_px
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


def start_server(data: bytes) -> dict[str, float]:
    """Start gunicorn with one worker, upload the picture, and return seconds to the verdict and the worker's memory."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        environment = {**os.environ, "DEEPFAKE_INSTANCE_PATH": folder, "WEB_CONCURRENCY": "1"}
        command = [sys.executable, "-m", "gunicorn", "app:app", "--bind", address]
        started = time.perf_counter()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)
        try:
            page = upload(f"http://{address}", data, started)
            seconds = time.perf_counter() - started
            if "probability" not in page.lower():
                raise SystemExit("The server answered without a verdict.")
            workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            peak_kib = max(_peak_kib(pid) for pid in workers)
        finally:
            server.terminate()
            server.wait()
    return {"start to first verdict, s": seconds, "peak memory of the worker, MB": peak_kib * 1024 / 1e6}


def _peak_kib(pid: str) -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def upload(site: str, data: bytes, started: float) -> str:
    """Send the picture through the form as a browser would and return the result page."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    while True:
        try:
            form = browser.open(site).read().decode()
            break
        except URLError:
            if time.perf_counter() - started > START_TIMEOUT_S:
                raise SystemExit(f"The server did not start within {START_TIMEOUT_S} s.") from None
            time.sleep(0.02)
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form)[1]
    line = "benchmark-boundary"
    body = (
        f'--{line}\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token}\r\n'
        f'--{line}\r\nContent-Disposition: form-data; name="file"; filename="portrait.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode() + data + f"\r\n--{line}--\r\n".encode()  # fmt: skip
    headers = {"Content-Type": f"multipart/form-data; boundary={line}"}
    return browser.open(Request(f"{site}/analyses", body, headers)).read().decode()


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, help="of the fast engine and the face finder (default: every core)")
    parser.add_argument("--recordings", nargs="*", type=Path, help="videos and recordings to time")
    parser.add_argument("--runtimes", action="store_true", help="also the network in other runtimes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)

    data = portrait_jpeg()
    server = start_server(data)  # before TensorFlow takes memory
    detector, finder = load_detector(threads=options.threads), FaceFinder(threads=options.threads)
    judge = detector.pictures
    ours = stages(judge, finder, data)
    times = take_turns(ours, options.rounds)  # as in the server, which never loads TensorFlow
    recordings: dict[str, Path | bytes] = {path.name: path for path in options.recordings or ()} or {
        f"video, {VIDEO_S} s of 1080p with sound": clip_mp4(read_image(data)),
        f"recording, {RECORDING_S} s": wave_file(tones(RECORDING_S)),
    }
    ways = {name: partial(detector.detect, source) for name, source in recordings.items()}
    times |= take_turns(ways, RECORDING_ROUNDS, warm_up=1)
    theirs = students_way(KerasEngine(MODEL_FILES["keras"]), data)
    if options.runtimes:
        theirs |= other_runtimes(judge, options.threads)
    turns = take_turns({"network": ours["network"], "whole": ours["whole"], **theirs}, options.rounds)
    times |= {f"{name}, in turns": values for name, values in turns.items()}

    spec = judge.engine.spec
    picture = f"{SIDE_PX} x {SIDE_PX} JPEG of {len(data) / 1e3:.0f} kB"
    print(f"{spec.network} at {spec.face.size_px} px, {picture}, {options.rounds} rounds")
    print(f"OpenVINO {version('openvino')}, {options.threads or os.cpu_count()} threads")
    print("| stage | median ms | fastest | slowest | a second |\n|---|---|---|---|---|")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"| {name} | {medians[name]:.1f} | {min(values):.1f} | {max(values):.1f} | {1e3 / medians[name]:.0f} |")
    figures: dict[str, float] = {**server}
    for slow, fast in (("predict", "network"), ("predict, whole", "whole")):
        ratios = [a / b for a, b in zip(turns[slow], turns[fast], strict=True)]
        figures[f"{slow} / {fast}"] = statistics.median(ratios)
    print("| figure | value |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:.2f} |")
    if options.json:
        options.json.write_text(json.dumps({"medians_ms": medians, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
