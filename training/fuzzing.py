"""Break files at random, and check that the detector answers each one with a verdict or with a sentence."""

from __future__ import annotations

import io
import multiprocessing
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image

from detector.media.images import read_image
from detector.media.kinds import MEDIA
from detector.media.videos import read_audio, sample_frames
from detector.pipeline import Detector, load_detector
from detector.provenance import read_provenance
from detector.record import to_record
from detector.results import DetectorError, PictureDetection
from training.manifests import ROOT
from training.tables import format_header, format_row

SAMPLES_FOLDER = ROOT / "webapp" / "sample_files"
COPY_SIDE_PX = 256
COPY_FPS = 4
HEADER_BYTES = 512  # half of all damage hits the first ones, where formats keep their lengths
SPLICE_BYTES = 4096
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
MAX_DAMAGES = 3
LOADING_TIMEOUT_S = 120
VIDEO_COPIES = {
    "mp4": ("libx264", "mp4"),
    "mov": ("mpeg4", "mov"),
    "mkv": ("libvpx", "matroska"),
    "avi": ("mpeg4", "avi"),
}
REPEATABLE = {"fflags": "bitexact"}  # no random serial numbers in the copies
SOUND_COPIES = {
    "wav": ("pcm_s16le", "wav"),
    "mp3": ("libmp3lame", "mp3"),
    "ogg": ("libopus", "ogg"),
    "m4a": ("aac", "ipod"),
}


@dataclass(frozen=True)
class FuzzOptions:
    """The command line of fuzz.py.

    Attributes:
        files: broken files of each medium
        media: media to break
        seed: source of all randomness
        limit_s: a file that takes longer has failed
        limit_mb: a file that needs more memory has failed, in megabytes above the loaded detector
        keep: folder for the files that failed; by default they are not kept
    """

    files: int = 1000
    media: tuple[str, ...] = tuple(MEDIA)
    seed: int = 0
    limit_s: float = 120.0  # a video whose times were damaged can have dozens of sampled frames
    limit_mb: float = 1000.0
    keep: Path | None = None


class Outcome(StrEnum):
    """How the detector answered a broken file; the first two are right."""

    VERDICT = "verdict"
    SENTENCE = "sentence"
    TRACEBACK = "traceback"
    CRASH = "crash"
    TOO_LONG = "too long"
    TOO_MUCH_MEMORY = "too much memory"


@dataclass(frozen=True)
class Answer:
    """The answer to one broken file.

    Attributes:
        outcome: how it was answered.
        words: the verdict, the sentence, or the traceback.
        elapsed_s: how long it took.
        peak_mb: the largest resident memory meanwhile, above that of the loaded detector.
    """

    outcome: Outcome
    words: str = ""
    elapsed_s: float = 0.0
    peak_mb: float = 0.0


@dataclass
class FuzzReport:
    """The answers to all broken files of one medium; failures by the name of the broken file."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    failures: dict[str, Answer] = field(default_factory=dict)


def fuzz(options: FuzzOptions) -> dict[str, FuzzReport]:
    """Break files of each medium, print a table of the answers, and return them.

    Raises:
        SystemExit: a file got neither a verdict nor a sentence, or passed a limit.
    """
    print(format_header("medium", *Outcome, "slowest, s", "memory, MB"))
    reports = {}
    for media in options.media:
        report = reports[media] = fuzz_medium(media, options)
        counts = (report.outcomes[outcome] for outcome in Outcome)
        print(format_row(media, *counts, f"{report.slowest_s:.1f}", f"{report.peak_mb:.0f}"), flush=True)
    failures = {name: answer for report in reports.values() for name, answer in report.failures.items()}
    for name, answer in failures.items():
        print(f"\n{name}: {answer.outcome}\n{answer.words}", file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} broken files got neither a verdict nor a sentence, or passed a limit.")
    return reports


def fuzz_medium(media: str, options: FuzzOptions) -> FuzzReport:
    """Break files of one medium and collect the answers.

    Args:
        media: "image", "video" or "audio".
        options: the number of files, the seed and the limits.
    """
    report = FuzzReport()
    with DetectorProcess(options.limit_s) as process:
        for name, data in broken_files(media, options.files, options.seed):
            answer = process.answer(data)
            if answer.outcome in (Outcome.VERDICT, Outcome.SENTENCE) and answer.peak_mb > options.limit_mb:
                answer = Answer(Outcome.TOO_MUCH_MEMORY, f"{answer.peak_mb:.0f} MB", answer.elapsed_s, answer.peak_mb)
            report.outcomes[answer.outcome] += 1
            report.slowest_s = max(report.slowest_s, answer.elapsed_s)
            report.peak_mb = max(report.peak_mb, answer.peak_mb)
            if answer.outcome in (Outcome.VERDICT, Outcome.SENTENCE):
                continue
            report.failures[name] = answer
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / name).write_bytes(data)
    return report


# broken files


def broken_files(media: str, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of broken copies of sound files, which alternate."""
    sound_files = {"image": whole_pictures, "video": whole_videos, "audio": whole_recordings}[media]()
    suffixes, contents = list(sound_files), list(sound_files.values())
    for number in range(count):
        chance = random.Random(f"{seed} {media} {number}")  # noqa: S311  # damage, no secret
        suffix = suffixes[number % len(suffixes)]
        yield f"{media}-{seed}-{number}.{suffix}", break_file(sound_files[suffix], chance, contents)


def break_file(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Return a damaged copy of a file.

    Args:
        data: the file.
        chance: source of all randomness.
        others: files of which a part may replace one of this file.
    """
    broken = bytearray(data)
    for _ in range(chance.randint(1, MAX_DAMAGES)):
        damage = chance.choice(DAMAGES)
        damage(broken, chance, chance.choice(others))
        if not broken:
            break
    return bytes(broken)


def flip_bits(data: bytearray, chance: random.Random, _other: bytes) -> None:
    """Flip up to 64 bits."""
    for _ in range(chance.choice((1, 2, 8, 64))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def cut_off(data: bytearray, chance: random.Random, _other: bytes) -> None:
    """Remove the end of a file."""
    del data[_place(data, chance) :]


def splice_header(data: bytearray, chance: random.Random, other: bytes) -> None:
    """Replace the first bytes by those of another file."""
    data[: chance.randint(1, SPLICE_BYTES)] = other[: chance.randint(1, SPLICE_BYTES)]


def falsify_length(data: bytearray, chance: random.Random, _other: bytes) -> None:
    """Overwrite up to 4 places with whole numbers of 2, 4 or 8 bytes at the end of their range."""
    for _ in range(chance.randint(1, 4)):
        width = chance.choice((2, 4, 8))
        number = chance.choice(LENGTHS) % (1 << 8 * width)
        place = _place(data, chance)
        data[place : place + width] = number.to_bytes(width, chance.choice(("big", "little")))


def repeat_part(data: bytearray, chance: random.Random, _other: bytes) -> None:
    """Insert a part of the file once more at another place."""
    start = _place(data, chance)
    place = _place(data, chance)
    data[place:place] = data[start : start + chance.randint(1, SPLICE_BYTES)]


def drop_part(data: bytearray, chance: random.Random, _other: bytes) -> None:
    """Remove a part from the middle."""
    start = _place(data, chance)
    del data[start : start + chance.randint(1, SPLICE_BYTES)]


DAMAGES: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    flip_bits,
    cut_off,
    splice_header,
    falsify_length,
    repeat_part,
    drop_part,
)


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(min(len(data), chance.choice((HEADER_BYTES, len(data)))))


# whole files of every format that is read, made from the shipped samples


def whole_pictures() -> dict[str, bytes]:
    """Return a picture by suffix: the shipped PNG, and small copies in the others but HEIC, which is only read."""
    png = (SAMPLES_FOLDER / "nasa-portrait-self-blend.png").read_bytes()
    picture = Image.fromarray(read_image(png)).resize((COPY_SIDE_PX, COPY_SIDE_PX))
    exif = Image.Exif()
    exif[0x0112], exif[0x0131], exif[0x0132] = 6, "A program", "2026:01:02 03:04:05"  # orientation, software, time

    def save(format: str, **how: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, format, **how)
        return buffer.getvalue()

    return {
        "png": png,
        "jpg": save("JPEG", exif=exif),
        "jpeg": save("JPEG", progressive=True, exif=exif),
        "webp": save("WEBP", exif=exif),
        "gif": save("GIF", save_all=True, append_images=[picture.rotate(90)]),
        "bmp": save("BMP"),
        "tif": save("TIFF", compression="tiff_lzw", exif=exif),
        "avif": save("AVIF", exif=exif),
    }


def whole_videos() -> dict[str, bytes]:
    """Return a video by suffix: the shipped WebM, and copies in every other container with other codecs."""
    webm = (SAMPLES_FOLDER / "nasa-portrait-camera.webm").read_bytes()
    frames = [frame for _, frame in sample_frames(webm, every_s=1 / COPY_FPS)]
    return {"webm": webm, **{suffix: _encode_video(frames, *how) for suffix, how in VIDEO_COPIES.items()}}


def whole_recordings() -> dict[str, bytes]:
    """Return a recording by suffix: the shipped FLAC, and copies in every other format."""
    flac = (SAMPLES_FOLDER / "formula-voice.flac").read_bytes()
    waveform = read_audio(flac)
    return {"flac": flac, **{suffix: _encode_sound(waveform, *how) for suffix, how in SOUND_COPIES.items()}}


def _encode_video(frames: list[np.ndarray], codec: str, container_format: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format, options=REPEATABLE) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=COPY_FPS, options={"threads": "1"}))
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _encode_sound(waveform: np.ndarray, codec: str, container_format: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format, options=REPEATABLE) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=16_000, layout="mono"))
        frame = av.AudioFrame.from_ndarray(np.rint(32_767 * waveform).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


# the process that answers, so that a crash or an endless loop ends a file and not the run


class DetectorProcess:
    """A process with a loaded detector; another one follows after a crash and after a file that takes too long.

    Args:
        limit_s: seconds for one file.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._running: tuple[SpawnProcess, Connection] | None = None

    def __enter__(self) -> DetectorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def answer(self, data: bytes) -> Answer:
        """Return the detector's answer to a file."""
        process, connection = self._running = self._running or _start_process()
        started = time.monotonic()
        try:
            connection.send_bytes(data)
            if connection.poll(self._limit_s):
                answer: Answer = connection.recv()
                return answer
            outcome, words = Outcome.TOO_LONG, f"There was no answer within {self._limit_s:g} s."
        except (EOFError, OSError):
            process.join()
            outcome, words = Outcome.CRASH, f"The process ended with exit code {process.exitcode}."
        self._stop()
        return Answer(outcome, words, time.monotonic() - started)

    def _stop(self) -> None:
        if self._running is not None:
            process, connection = self._running
            connection.close()
            process.kill()
            process.join()
            self._running = None


def _start_process() -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer_files, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    if not ours.poll(LOADING_TIMEOUT_S):
        sys.exit(f"The detector was not loaded within {LOADING_TIMEOUT_S} s.")
    ours.recv()
    return process, ours


def _answer_files(connection: Connection) -> None:
    detector = load_detector()
    for media in (whole_pictures()["png"], whole_recordings()["flac"]):
        detector.detect(media)  # loads every network, so that later growth is of the files
    loaded_mb = _peak_memory_mb()
    connection.send(loaded_mb)
    with suppress(EOFError):
        while True:
            data = connection.recv_bytes()
            started = time.monotonic()
            outcome, words = _answer_file(detector, data)
            connection.send(Answer(outcome, words, time.monotonic() - started, _peak_memory_mb() - loaded_mb))


def _answer_file(detector: Detector, data: bytes) -> tuple[Outcome, str]:
    try:
        detection = detector.detect(data)
        to_record(detection)
        if isinstance(detection, PictureDetection):
            read_provenance(data, image=detection.image)
        return Outcome.VERDICT, str(detection.verdict)
    except DetectorError as error:
        return (Outcome.SENTENCE, str(error)) if _is_sentence(str(error)) else (Outcome.TRACEBACK, repr(error))
    except Exception:  # noqa: BLE001  # any other one is what the run searches for
        return Outcome.TRACEBACK, traceback.format_exc()


def _is_sentence(text: str) -> bool:
    return text.endswith(".") and " " in text and "object at 0x" not in text


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
