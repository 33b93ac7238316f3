r"""Check pictures, videos and recordings from the command line, and verify evidence bundles.

    deepfake-detector scan PATH [PATH ...] --csv OUT.csv
    deepfake-detector scan PATH [PATH ...] --server URL --token TOKEN --csv OUT.csv
    deepfake-detector scan s3://BUCKET/PREFIX --out s3://BUCKET/SCORES --celery
    deepfake-detector verify BUNDLE.zip

`python -m detector` is the same command. Files given by name are always analysed. Folders are searched at any depth
for files with a suffix in `SUFFIXES`, whose content then decides their medium. Names that begin with a dot are skipped,
and links to other folders are not followed.

The CSV is UTF-8 with the columns of `detector.reports.rows.SCAN_COLUMNS`: one row per file, written at once.
`probability` is P(deepfake) in [0, 1], empty only where `error` says why there is no score. `faces` is the number of
faces, in a video of tracks. `reasons` are joined by `;`. `sound_verdict` and `sound_probability` are for the audio
track of a video, which the verdict does not use. `duration_s` is empty for a picture.
Error rates: `real_n` real pictures with a face of this size, or real recordings, were tested. Of them, `real_share`
(95% interval `real_low` to `real_high`) scored as high or higher. Of `fake_n` fakes, `fake_share` scored as low or
lower. `rates_unseen` is `true` if the network that scored them had not learned from their kinds and sources. It is
`false` if they are of the collections the model was trained on. All are empty for videos, for files that could not be
checked, and for models without reference scores.
The CSV is meant for programs: `path` is exact, even where a spreadsheet would read a formula (= + - @ in front), so
import that column as text. Only bytes of a name that are not Unicode are escaped, as \udcXX.
`--json` writes JSON Lines, one object per file: the record of `detector.record.to_record`, with `path` and `error`.

With `--server`, files are sent to a server of this project, many in a request, and the rows are the same. The server
deletes what was sent, unless `--keep` is given.
With `--resume`, the files that have a row in OUT are left out, and the other rows are added to it.
`--out` scans an archive of any size into Parquet files, one for each chunk of files, with the columns of the CSV.
Paths and `--out` are folders or fsspec addresses. The same command goes on where it was stopped. `--celery` spreads
the chunks over Celery's workers, whose Redis is named by the environment variable DEEPFAKE_BROKER_URL.

`verify` analyses the original in an evidence bundle again, or the file given with `--file`: a picture, a video or a
recording. It prints "same" or a line for each difference, then what is the same, then the new verdict.

Exit codes: 0 every file was read, or the bundle is the same; 1 at least one file failed, or something differs;
2 nothing was scanned or compared (wrong options, no model, no server, no bundle, no original), the server was lost, or
the rows could not be written;
130 stopped by Ctrl-C, with the rows so far kept.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal, TextIO

from tqdm import tqdm

from detector.archive.chunks import SUFFIXES, count_outcomes, make_plan, scan_chunk
from detector.archive.folders import ResultFolder
from detector.archive.workers import spread
from detector.media.files import open_file
from detector.pictures.detect import MODEL_FILES
from detector.pipeline import load_detector
from detector.remote import RemoteDetector, ServerError
from detector.reports.phrases import headline, was_checked
from detector.reports.row_files import RowFile, csv_rows, json_rows, read_csv, read_json
from detector.reports.rows import UNCHECKED, ScanRow, escape_unprintable
from detector.reports.verification import BOX_TOLERANCE_PX, LOGIT_TOLERANCE, verify_bundle
from detector.results import Detection, DetectorError, Verdict
from detector.text import format_probability
from detector.version import __version__

OK, SOME_FAILED, NOTHING_DONE, INTERRUPTED = 0, 1, 2, 130  # exit codes
MAX_PRINTED_DIFFERENCES = 20
GO_ON = "The rows so far are kept; the same command with --resume goes on."
BROKER_VARIABLE = "DEEPFAKE_BROKER_URL"  # its address may hold a password, which arguments would show to other users
MIN_EVERY_S, MAX_EVERY_S = 0.04, 3600.0  # between sampled frames of a video


def find_files(paths: Sequence[str]) -> tuple[dict[str, str | None], int]:
    """List the files to analyse, in the given order; in a folder its own files by name, then its subfolders.

    Args:
        paths: files and folders; a path that does not exist counts as a file.

    Returns:
        Each path with None, or with a sentence if it is a folder that cannot be read; and the number of other files in
        the folders.
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
    """Analyse every file, write its row at once, and return the exit code.

    Raises:
        ModelError: the network cannot be loaded.
        ServerError: the server cannot be used.
        OSError: the rows cannot be written.
    """
    if arguments.out:
        return scan_archive(arguments)
    files, left_out = find_files(arguments.paths)
    counts: Counter[str] = Counter()
    stopped = False
    with ExitStack() as stack:
        open_rows = _open_detector(arguments, stack)
        started_s = time.perf_counter()
        row_files = _open_row_files(arguments, stack)
        missing = {path: problem for path, problem in files.items() if not all(each.has(path) for each in row_files)}
        # rows on the terminal show progress themselves, and a bar would break them
        outputs = {arguments.csv, arguments.json}
        hidden = arguments.quiet or outputs == {None} or "-" in outputs or not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(total=len(missing), unit="file", disable=hidden))
        rows = stack.enter_context(closing(open_rows(missing, bar)))
        try:
            for row in rows:
                counts[_outcome(row)] += 1
                for each in row_files:
                    each.add(row)
                bar.update()
        except KeyboardInterrupt:
            stopped = True
        except ServerError as error:
            raise ServerError(f"{error} {GO_ON}" if outputs - {None, "-"} else str(error)) from error
    if not arguments.quiet:
        took_s = time.perf_counter() - started_s
        print(_summarise(counts, total=len(missing), left_out=left_out, took_s=took_s), file=sys.stderr)
        if len(files) > len(missing):
            print(f"Left out: {len(files) - len(missing)} of {len(files)} files, which had a row.", file=sys.stderr)
    has_failed = counts["error"] or any(True in each.earlier.values() for each in row_files)
    return INTERRUPTED if stopped else SOME_FAILED if has_failed else OK


def scan_archive(arguments: argparse.Namespace) -> int:
    """Scan an archive into Parquet files, here or on Celery's workers, and return the exit code.

    Raises:
        ArchiveError: there is nothing to scan, or the results or the broker cannot be used.
        ModelError: the network cannot be loaded.
        OSError: files cannot be read or written.
    """
    folder = ResultFolder(arguments.out)
    plan = make_plan(arguments.paths, folder, every_s=arguments.every)
    missing = plan.missing(folder)
    done = plan.count - sum(plan.sizes[number] for number in missing)
    # without a terminal, a line every ten seconds
    interval_s = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(total=plan.count, initial=done, unit="file", mininterval=interval_s, disable=arguments.quiet) as bar:

        def show(count: int) -> None:
            bar.update(count - bar.n)

        def warn(words: str) -> None:
            bar.write(words, file=sys.stderr)

        if arguments.celery:
            spread(plan, folder, os.environ.get(BROKER_VARIABLE, ""), report=show, warn=warn)
        elif missing:
            detector = load_detector(engine=arguments.engine, threads=arguments.threads)
            for number in missing:
                scan_chunk(detector, folder.url, number, report=lambda _: show(int(bar.n) + 1))
    counts = count_outcomes(folder, plan)
    if not arguments.quiet:
        kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in Verdict)
        print(f"{plan.count:,} files: {kinds}. {counts['error']:,} could not be read.", file=sys.stderr)
    return SOME_FAILED if counts["error"] else OK


def verify(arguments: argparse.Namespace) -> int:
    """Analyse the original of an evidence bundle again, print what differs, and return the exit code.

    Raises:
        ModelError: the network cannot be loaded.
        UnreadableMedia, MediaTooLarge: the bundle cannot be read.
        OSError: a file cannot be opened.
    """
    detector = load_detector(engine=arguments.engine, threads=arguments.threads)
    original = Path(arguments.file) if arguments.file else None
    with open_file(arguments.bundle) as bundle:
        verification = verify_bundle(bundle, detector, original=original)
    if verification.differences:
        _print_list("differs:", verification.differences)
        if verification.matches:
            _print_list("the same:", verification.matches)
    else:
        _print_list(
            f"same (logits within {LOGIT_TOLERANCE:g}, boxes within {BOX_TOLERANCE_PX} pixel)", verification.matches
        )
    if verification.detection is not None:
        detection = verification.detection
        print(headline(detection.verdict, detection.media, detection.reasons))
        if was_checked(detection.reasons):
            probability = format_probability(detection.probability)
            print(f"The probability that it is a deepfake is {probability} (logit {detection.logit:.6f}).")
    return SOME_FAILED if verification.differences else OK


def _print_list(title: str, sentences: Sequence[str]) -> None:
    print(title)
    for sentence in sentences[:MAX_PRINTED_DIFFERENCES]:
        print(f"- {escape_unprintable(sentence)}")
    if len(sentences) > MAX_PRINTED_DIFFERENCES:
        print(f"- and {len(sentences) - MAX_PRINTED_DIFFERENCES:,} more")


def _open_detector(
    arguments: argparse.Namespace, stack: ExitStack
) -> Callable[[Mapping[str, str | None], tqdm], Generator[ScanRow, None, None]]:
    """Return the function that makes the rows of files: here, or on a server."""
    if arguments.server:
        token = _read_token(arguments.token)
        server = stack.enter_context(RemoteDetector(arguments.server, token, keep=arguments.keep))
        return partial(_rows_of_server, server)
    detector = load_detector(engine=arguments.engine, threads=arguments.threads)
    return partial(_rows_of_detector, partial(detector.detect, every_s=arguments.every))


def _rows_of_detector(
    detect: Callable[..., Detection], files: Mapping[str, str | None], bar: tqdm
) -> Generator[ScanRow, None, None]:
    for path, problem in files.items():
        yield ScanRow(path, error=problem) if problem else _analyse(detect, path, bar)


def _rows_of_server(
    server: RemoteDetector, files: Mapping[str, str | None], bar: tqdm
) -> Generator[ScanRow, None, None]:
    def report(words: str) -> None:
        bar.set_postfix_str(escape_unprintable(words))

    with closing(server.detect_all((path for path in files if not files[path]), report=report)) as results:
        for path, problem in files.items():
            result = DetectorError(problem) if problem else next(results)
            if isinstance(result, DetectorError):
                yield ScanRow(path, error=str(result))
            else:
                yield ScanRow(path, detection=result)


def _read_token(text: str) -> str:
    if not text.startswith("@"):
        return text
    with open(text[1:], encoding="utf-8") as file:
        return file.read().strip()


def _analyse(detect: Callable[..., Detection], path: str, bar: tqdm) -> ScanRow:
    def report(share: float) -> None:
        bar.set_postfix_str(f"{escape_unprintable(os.path.basename(path))} {share:.0%}" if share < 1 else "")

    try:
        return ScanRow(path, detection=detect(path, progress=report))
    except DetectorError as error:
        return ScanRow(path, error=str(error))
    except MemoryError:
        return ScanRow(path, error="There is not enough memory for this file.")


def _open_row_files(arguments: argparse.Namespace, stack: ExitStack) -> list[RowFile]:
    def opened(path: str) -> TextIO:
        if path == "-":
            return sys.stdout
        mode: Literal["a", "w"] = "a" if arguments.resume else "w"
        return stack.enter_context(open(path, mode, encoding="utf-8", errors="backslashreplace", newline=""))

    formats = ((arguments.csv, read_csv, csv_rows), (arguments.json, read_json, json_rows))
    found = []
    for path, read, write in formats:
        if path:
            earlier = read(path) if arguments.resume else None
            found.append(write(opened(path), earlier))
    return found or [RowFile(sys.stdout, lambda row: print(row.to_line()), {})]


def _summarise(counts: Counter[str], *, total: int, left_out: int, took_s: float) -> str:
    done = sum(counts.values())
    files = f"{done} of {total} files" if done < total else f"{done} file{'' if done == 1 else 's'}"
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in (*Verdict, UNCHECKED))
    summary = f"{files} in {took_s:.1f} s: {kinds}. {counts['error']} could not be read."
    return summary + (f" Skipped in the folders: {left_out} with other suffixes." if left_out else "")


def _outcome(row: ScanRow) -> str:
    if row.detection is None:
        return "error"
    return row.detection.verdict if was_checked(row.detection.reasons) else UNCHECKED


def _output(path: str) -> str:
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # `scan --json face.jpg other.jpg` would overwrite it
        raise argparse.ArgumentTypeError(f"{path!r} has the suffix of an input file; put the paths before this option")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_EVERY_S <= seconds <= MAX_EVERY_S:  # also excludes NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {MIN_EVERY_S} to {MAX_EVERY_S}")
    return seconds


def _make_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Distinguish real faces and voices from deepfakes.")
    parser.add_argument("--version", action="version", version=f"detector {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "scan",
        help="check files and folders",
        description="Check pictures, videos and recordings, and those in folders at any depth. "
        "Without --csv and --json, a table is printed.",
        epilog="Exit codes: 0 every file was read, 1 at least one failed, 2 nothing was scanned, 130 stopped.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder of files")
    command.add_argument("--csv", type=_output, metavar="OUT.csv", help="write one row per file; - prints it")
    json_help = "write one JSON object per line, with every face; print it without a name or with -"
    command.add_argument("--json", type=_output, nargs="?", const="-", metavar="OUT.json", help=json_help)
    every_help = "seconds between the sampled frames of a video (default: 1; short videos are sampled more often)"
    command.add_argument("--every", type=_seconds, default=1.0, metavar="S", help=every_help)
    out_help = "scan an archive: write Parquet files to this folder or fsspec address; go on where it was stopped"
    command.add_argument("--out", metavar="FOLDER", help=out_help)
    celery_help = f"with --out: spread the files over Celery's workers; {BROKER_VARIABLE} names their Redis"
    command.add_argument("--celery", action="store_true", help=celery_help)
    _add_network_options(command)
    command.add_argument("--server", metavar="URL", help="send the files to this server instead of checking them here")
    command.add_argument("--token", metavar="TOKEN", help="access token of the server, or @FILE to read it from a file")
    command.add_argument("--keep", action="store_true", help="keep files and results on the server")
    resume_help = "leave out the files that have a row in OUT, and add the others to it"
    command.add_argument("--resume", action="store_true", help=resume_help)
    command.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    command.set_defaults(run=scan)

    command = commands.add_parser(
        "verify",
        help="check an evidence bundle",
        description="Check the original in an evidence bundle again. Print what differs and what is the same. "
        "A bundle is not signed, so compare the output with the report.",
        epilog="Exit codes: 0 the same, 1 something differs, 2 nothing could be compared.",
    )
    command.add_argument("bundle", metavar="BUNDLE", help="the ZIP archive")
    command.add_argument("--file", metavar="ORIGINAL", help="the file itself, in place of the one in the bundle")
    _add_network_options(command)
    command.set_defaults(run=verify)
    return parser


def _add_network_options(command: argparse.ArgumentParser) -> None:
    engine_help = "onnx is fast (default), keras is the reference"
    command.add_argument("--engine", choices=tuple(MODEL_FILES), default="onnx", help=engine_help)
    command.add_argument("--threads", type=_count, metavar="N", help="threads of the network (default: all cores)")


def main(argv: Sequence[str] | None = None, *, program: str = "deepfake-detector") -> int:
    """Run the command line and return its exit code, as listed at the top of this file.

    Args:
        argv: the arguments; None takes those of the process.
        program: the command as the person typed it, for help and messages.
    """
    parser = _make_parser(program)
    arguments = parser.parse_args(argv)
    if arguments.run is scan and arguments.csv and arguments.csv == arguments.json:
        parser.error(f"--csv and --json both write to {arguments.csv!r}")
    if arguments.run is scan and (arguments.server is None) != (arguments.token is None):
        parser.error("--server and --token belong together")
    if arguments.run is scan and arguments.keep and not arguments.server:
        parser.error("--keep is for --server")
    outputs = {arguments.csv, arguments.json} - {None} if arguments.run is scan else set()
    if arguments.run is scan and arguments.resume and (not outputs or "-" in outputs):
        parser.error("--resume adds rows to the file of --csv or --json")
    if arguments.run is scan and arguments.out and (arguments.csv or arguments.json):
        parser.error("--out writes Parquet files, so it excludes --csv and --json")
    if arguments.run is scan and arguments.celery:
        if not arguments.out:
            parser.error("--celery needs --out, where the workers write")
        if not os.environ.get(BROKER_VARIABLE):
            parser.error(f"--celery needs the address of Redis in the environment variable {BROKER_VARIABLE}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a file name holds
    try:
        exit_code: int = arguments.run(arguments)
        return exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe; the interpreter must not flush into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOTHING_DONE
    except (DetectorError, OSError) as error:
        print(f"{program}: {escape_unprintable(str(error))}", file=sys.stderr)
        return NOTHING_DONE
