r"""Judge pictures, videos and recordings from the command line, and check what was judged before.

    python -m detector scan PATH [PATH ...] --csv OUT.csv
    python -m detector verify BUNDLE.zip

Files named one by one are always tried. In folders, and the folders inside them, files are found by their suffix
(`SUFFIXES`), and then judged by what they hold; names that begin with a dot are passed over, links to other folders
are not followed.

The CSV is UTF-8 with the columns of `COLUMNS`, a row a file, written as they come. `probability` is P(deepfake) in
[0, 1], empty only where `error` says why nothing could be scored; `faces` is how many, in a video how many were
followed; `reasons` are joined by `;`. `sound_verdict` and `sound_probability` tell of the sound of a video, which the
verdict does not heed. `duration_s` is empty for a picture.
Of `real_n` held-out real pictures with a face of this size, or real recordings, the share `real_share` (95 % interval
`real_low` to `real_high`) scored as high or higher, of `fake_n` fakes the share `fake_share` as low or lower; empty for
videos, and where nothing was judged or the model was not measured.
It is meant for programs, so `path` is exact, even where a spreadsheet would take it for a formula (= + - @ in
front): import it there as text. Only bytes of a name that are no Unicode are written out, as \udcXX.
`--json` writes JSON Lines, one object a file: what `Detection.to_dict` holds, with `path` and `error`; the shares
are in its `error_rates`.

`verify` judges the original in an evidence bundle again, or the file given with `--file`, and prints "same" or a line
for everything that differs, then the verdict it came to.

Exit codes: 0 every file was judged, or the bundle is the same; 1 at least one was not, or something differs; 2 nothing
was scanned or compared (wrong options, no model, no bundle, no original) or the rows could not be written; 130 stopped
by Ctrl-C, the rows so far are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TextIO

from tqdm import tqdm

from detector.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from detector.pictures.detect import MODEL_FILES
from detector.pipeline import Detector, load_detector
from detector.reports.bundle import BOX_TOLERANCE_PX, LOGIT_TOLERANCE, MAX_BUNDLE_BYTES, verify_bundle
from detector.reports.phrases import headline
from detector.results import (
    ERROR_CLASS_BY_VERDICT,
    Detection,
    DetectorError,
    ErrorRate,
    MediaTooLarge,
    PictureDetection,
    VideoDetection,
    VoiceDetection,
)
from detector.text import format_probability
from detector.version import __version__

RATE_COLUMNS = tuple(f"{kind}_{figure}" for kind in ("real", "fake") for figure in ("share", "low", "high", "n"))
SCAN_COLUMNS = (
    "path", "media", "verdict", "probability", "logit", "faces", "reasons", *RATE_COLUMNS, "duration_s",
    "sound_verdict", "sound_probability", "elapsed_ms", "error",
)  # fmt: skip
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | AUDIO_SUFFIXES
OK, SOME_FAILED, NOTHING_DONE, INTERRUPTED = 0, 1, 2, 130  # exit codes
SHOWN_DIFFERENCES = 20  # of a bundle
MIN_EVERY_S, MAX_EVERY_S = 0.04, 3600.0  # of a video; a frame every so often


@dataclass(frozen=True)
class Row:
    """One file and what became of it: a detection, or the sentence that says why there is none."""

    path: str
    detection: Detection | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the file; a value that is not there is null."""
        missing = dict.fromkeys(name for name in SCAN_COLUMNS if name not in RATE_COLUMNS)
        found = self.detection.to_dict() if self.detection else {}
        return {**missing, **found, "path": self.path, "error": self.error}

    def to_csv(self) -> list[str]:
        """Return the values of `COLUMNS`."""
        if self.detection is None:
            return [self.path, *[""] * (len(SCAN_COLUMNS) - 2), self.error or ""]
        seen = self.detection
        rates = {rate.kind: rate for rate in seen.error_rates}
        sound = seen.sound if isinstance(seen, VideoDetection) else None
        return [
            self.path,
            seen.media,
            str(seen.verdict),
            f"{seen.probability:.6g}",
            f"{seen.logit:.6g}",
            "" if isinstance(seen, VoiceDetection) else str(_count_faces(seen)),
            ";".join(seen.reasons),
            *(value for kind in ("real", "fake") for value in _rate_values(rates.get(kind))),
            "" if isinstance(seen, PictureDetection) else f"{seen.duration_s:.2f}",
            str(sound.verdict) if sound else "",
            f"{sound.probability:.6g}" if sound else "",
            f"{seen.elapsed_ms:.1f}",
            "",
        ]

    def to_line(self) -> str:
        """Return one line for a terminal, whatever the file's name holds."""
        if self.detection is None:
            return f"{'error':<12}  {'-':>6}  {'-':>7}  {_printable(self.path)}: {_printable(self.error or '')}"
        seen = self.detection
        reasons = f" ({', '.join(seen.reasons)})" if seen.reasons else ""
        rates = [
            _rate_words(rate, seen.media)
            for rate in seen.error_rates
            if rate.kind in ERROR_CLASS_BY_VERDICT[seen.verdict]
        ]
        what = "voice" if isinstance(seen, VoiceDetection) else _face_words(_count_faces(seen))
        judged = f"{seen.verdict:<12}  {seen.probability:>6.3f}  {what:>7}  {_printable(self.path)}{reasons}"
        return " - ".join([judged, *rates])


def find_files(paths: Sequence[str]) -> tuple[dict[str, str | None], int]:
    """Lay out what is to be judged: as given, in a folder its own files by name, then the folders in it.

    Args:
        paths: files and folders; a file, or what does not exist, is taken as it is.

    Returns:
        Each path with None, or with the sentence that says why it cannot be entered; and the number of other files
        in the folders.
    """
    found: dict[str, str | None] = {}
    left_out = 0

    def note(error: OSError) -> None:
        found[error.filename] = f"The folder cannot be read: {error.strerror}."

    for path in paths:
        if not os.path.isdir(path):
            found[path] = None
            continue
        for folder, subfolders, names in os.walk(path, onerror=note):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(names):
                if name.startswith(".") or os.path.splitext(name)[1].lower() not in SUFFIXES:
                    left_out += 1
                else:
                    found[os.path.join(folder, name)] = None
    return found, left_out


def scan(arguments: argparse.Namespace) -> int:
    """Judge every file, write its row at once, and return the exit code.

    Raises:
        ModelError: the network cannot be loaded.
        OSError: the rows cannot be written.
    """
    files, left_out = find_files(arguments.paths)
    detector = load_detector(engine=arguments.engine, threads=arguments.threads)
    counts: Counter[str] = Counter()
    started_s = time.perf_counter()
    with ExitStack() as stack:
        writers = _open_writers(arguments, stack)
        # rows on the terminal are progress enough, and a bar would run through them
        outputs = {arguments.csv, arguments.json}
        hidden = arguments.quiet or outputs == {None} or "-" in outputs or not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(files.items(), unit="file", disable=hidden))
        try:
            for path, problem in bar:
                row = Row(path, error=problem) if problem else _judge(detector, path, arguments.every, bar)
                counts["error" if row.detection is None else row.detection.verdict] += 1
                for write in writers:
                    write(row)
        except KeyboardInterrupt:
            stopped = True
        else:
            stopped = False
    if not arguments.quiet:
        took_s = time.perf_counter() - started_s
        print(_summarise(counts, total=len(files), left_out=left_out, took_s=took_s), file=sys.stderr)
    return INTERRUPTED if stopped else SOME_FAILED if counts["error"] else OK


def verify(arguments: argparse.Namespace) -> int:
    """Judge the original of an evidence bundle again, say what differs, and return the exit code.

    Raises:
        ModelError: the network cannot be loaded.
        UnreadableMedia, MediaTooLarge: the bundle cannot be read.
        OSError: a file cannot be opened.
    """
    bundle, original = (path and _read_file(path) for path in (arguments.bundle, arguments.file))
    detector = load_detector(engine=arguments.engine, threads=arguments.threads)
    checked = verify_bundle(bundle, detector.pictures, original=original)
    if checked.differences:
        print("differs:")
        for sentence in checked.differences[:SHOWN_DIFFERENCES]:
            print(f"- {_printable(sentence)}")
        if len(checked.differences) > SHOWN_DIFFERENCES:
            print(f"- and {len(checked.differences) - SHOWN_DIFFERENCES:,} more")
    else:
        print(f"same (logits within {LOGIT_TOLERANCE:g}, boxes within {BOX_TOLERANCE_PX} pixel)")
    if checked.detection is not None:
        seen = checked.detection
        print(headline(seen.verdict))
        print(
            f"The probability that it is a deepfake is {format_probability(seen.probability)} (logit {seen.logit:.6f})."
        )
    return SOME_FAILED if checked.differences else OK


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_BUNDLE_BYTES + 1)
    if len(data) > MAX_BUNDLE_BYTES:
        raise MediaTooLarge(f"{path!r} has more than {MAX_BUNDLE_BYTES:,} bytes; no more are read.")
    return data


def _judge(detector: Detector, path: str, every_s: float, bar: tqdm) -> Row:
    def report(share: float) -> None:
        bar.set_postfix_str(f"{_printable(os.path.basename(path))} {share:.0%}" if share < 1 else "")

    try:
        return Row(path, detection=detector.detect(path, every_s=every_s, progress=report))
    except DetectorError as error:
        return Row(path, error=str(error))
    except MemoryError:
        return Row(path, error="There is not enough memory for this file.")


def _face_words(faces: int) -> str:
    return f"{faces} face{'' if faces == 1 else 's'}"


def _count_faces(detection: Detection) -> int:
    return len(detection.tracks if isinstance(detection, VideoDetection) else detection.faces)


def _rate_values(rate: ErrorRate | None) -> list[str]:
    """Return the values of a kind's RATE_COLUMNS."""
    if rate is None:
        return [""] * (len(RATE_COLUMNS) // 2)
    return [*(f"{value:.4f}" for value in (rate.share, rate.low, rate.high)), str(rate.n)]


def _rate_words(rate: ErrorRate, media: str) -> str:
    where = "high" if rate.kind == "real" else "low"
    shown = f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"
    alike = " of this size" if media == "image" else ""
    return f"{shown} of {rate.n:,} held-out {rate.kind}s{alike} scored this {where}"


def _open_writers(arguments: argparse.Namespace, stack: ExitStack) -> list[Callable[[Row], None]]:
    def opened(path: str) -> TextIO:
        if path == "-":
            return sys.stdout
        return stack.enter_context(open(path, "w", encoding="utf-8", errors="backslashreplace", newline=""))

    writers = []
    if arguments.csv:
        csv_file = opened(arguments.csv)
        table = csv.writer(csv_file)
        table.writerow(SCAN_COLUMNS)

        def write_csv(row: Row) -> None:
            table.writerow(row.to_csv())
            csv_file.flush()

        writers.append(write_csv)
    if arguments.json:
        json_file = opened(arguments.json)
        writers.append(lambda row: print(json.dumps(row.to_dict()), file=json_file, flush=True))
    if not writers:
        writers.append(lambda row: print(row.to_line(), flush=True))
    return writers


def _summarise(counts: Counter[str], *, total: int, left_out: int, took_s: float) -> str:
    done = sum(counts.values())
    files = f"{done} of {total} files" if done < total else f"{done} file{'' if done == 1 else 's'}"
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("real", "deepfake", "inconclusive"))
    summary = f"{files} in {took_s:.1f} s: {kinds}, {counts['error']} could not be judged."
    return summary + (f" Left out in the folders, of other kinds by name: {left_out}." if left_out else "")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _output(path: str) -> str:
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # `scan --json face.jpg other.jpg` would write over it
        raise argparse.ArgumentTypeError(f"{path!r} looks like a file to judge; put the paths before this option")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_EVERY_S <= seconds <= MAX_EVERY_S:  # also refuses what is no number
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {MIN_EVERY_S} to {MAX_EVERY_S}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m detector", description="Tell real faces and voices from fakes.")
    parser.add_argument("--version", action="version", version=f"detector {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "scan",
        help="judge files and folders",
        description="Judge pictures, videos and recordings, and those in folders at any depth. "
        "Without --csv and --json a table goes to the standard output.",
        epilog="Exit codes: 0 every file was judged, 1 at least one was not, 2 nothing was scanned, 130 stopped.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder of files")
    command.add_argument("--csv", type=_output, metavar="OUT.csv", help="write a row a file; - is the standard output")
    command.add_argument(
        "--json",
        type=_output,
        nargs="?",
        const="-",
        metavar="OUT.json",
        help="write a JSON object a line, with every face; without a name, or with -, to the standard output",
    )
    command.add_argument(
        "--every",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="of a video, look at a frame every so many seconds (default: 1; short ones are looked at more often)",
    )
    _add_network_options(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    command.set_defaults(run=scan)

    command = commands.add_parser(
        "verify",
        help="check an evidence bundle",
        description="Judge the original in an evidence bundle again and say whether it comes to the same, or what "
        "differs. Nothing in a bundle is signed, so compare what this prints with the report.",
        epilog="Exit codes: 0 the same, 1 something differs, 2 nothing could be compared.",
    )
    command.add_argument("bundle", metavar="BUNDLE", help="the ZIP archive")
    command.add_argument("--file", metavar="ORIGINAL", help="the picture itself, taken instead of the one inside")
    _add_network_options(command)
    command.set_defaults(run=verify)
    return parser


def _add_network_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine", choices=tuple(MODEL_FILES), default="onnx", help="onnx is fast (default), keras the reference"
    )
    command.add_argument("--threads", type=_count, metavar="N", help="how many the network may use; default: all cores")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see the top of this file)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is scan and arguments.csv and arguments.csv == arguments.json:
        parser.error(f"--csv and --json both write to {arguments.csv!r}")
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, say `head`, has seen enough; the interpreter must not flush into nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOTHING_DONE
    except (DetectorError, OSError) as error:
        print(f"python -m detector: {_printable(str(error))}", file=sys.stderr)
        return NOTHING_DONE
