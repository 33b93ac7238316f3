"""Score labelled videos as the server would, and tracks put together from single frames of one group.

A clip goes through the whole chain: frames, faces, tracks, fusion. Labelled clips are few. Pictures of one group, such
as the frames of one video, are therefore also fused as the frames of one track would be. Such a track needs no decoding
and no tracker, so its rates are those of the fusion alone.
"""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.media.degradations import UNDEGRADED
from detector.media.videos import open_media
from detector.metrics import CONFIDENCE, auc, proportion
from detector.models.calibration import Calibration
from detector.pictures.detect import PictureDetector, load_picture_detector
from detector.results import DetectorError, Reason, TrackFrame, Verdict
from detector.verdicts import classify, decide
from detector.videos.detect import detect_video
from detector.videos.tracks import MIN_TRACK_FRAMES, fuse_frames, robust_mean
from training.combining import learned_sources
from training.manifests import Example, read_labelled_rows, read_manifest
from training.runs import replace_file
from training.scoring import read_scores, score
from training.tables import (
    VISUALIZATIONS,
    Row,
    decide_row,
    exclusion_reasons,
    format_estimate,
    format_header,
    format_row,
)
from training.thresholds import UNSEEN_LIMITS, choose_thresholds

CLIP_COLUMNS = ("path", "label", "source", "generator", "group")
VIDEO_SCORE_COLUMNS = (
    "path", "form", "label", "source", "generator", "kind", "group", "fold", "unseen", "frames", "logit",
    "probability", "verdict", "reasons",
)  # fmt: skip
CLIP, TRACK = "clip", "track"  # values of `form`
TRACK_KINDS = {"video frame", "swap", "talking head"}  # kinds of pictures that are frames of a video


@dataclass(frozen=True)
class VideoEvaluationOptions:
    """The command line of evaluate_videos.py.

    Attributes:
        clips: manifest of labelled videos
        faces: manifest of labelled pictures, whose groups make the tracks and whose folds the clips belong to
        scores: scores of these pictures by networks that did not learn from their fold, as cross_validate.py writes
            them; without it the pictures are scored
        fold_models: model files, one for each fold, with {fold} in the path; a file is scored by that of its own fold
        model: model whose calibration and thresholds decide, and which scores what has no fold; by default the shipped
        out: folder of video_scores.csv and video_metrics.json
    """

    clips: Path
    faces: Path | None = None
    scores: Path | None = None
    fold_models: str | None = None
    model: Path | None = None
    out: Path = VISUALIZATIONS

    def __post_init__(self) -> None:
        if self.fold_models and "{fold}" not in self.fold_models:
            raise ValueError(f"--fold-models is {self.fold_models!r}; it needs {{fold}} where the number stands")
        if self.fold_models and self.faces is None:
            raise ValueError("--fold-models needs --faces, whose manifest says which fold a source belongs to")


def evaluate_videos(options: VideoEvaluationOptions) -> None:
    """Score clips and tracks, write video_scores.csv and video_metrics.json, and print the tables.

    Raises:
        SystemExit: a manifest, a file or a model cannot be read.
    """
    examples = [] if options.faces is None else read_manifest(options.faces)
    clips = read_clips(options.clips, {example.source: example.fold for example in examples})
    try:
        detector = load_picture_detector(options.model, threads=os.cpu_count())
        detector_of = _fold_detectors(options.fold_models, detector)
        calibration = detector.engine.spec.calibration
        rows = score_clips(clips, detector_of, options.clips.parent)
        if options.scores:
            rows += join_tracks(read_picture_scores(options.scores), calibration)
        elif options.faces:
            rows += join_tracks(score_frames(examples, detector_of, options.faces.parent), calibration)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    rows = [decide_row(row, calibration) for row in rows]
    metrics = {
        "created": date.today().isoformat(),
        "model": {"sha256_h5": detector.engine.model_sha256},
        **{f"{form}s": measure_videos([row for row in rows if row["form"] == form]) for form in (CLIP, TRACK)},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    replace_file(options.out / "video_scores.csv", partial(write_video_scores, rows))
    replace_file(options.out / "video_metrics.json", lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    print_video_tables(metrics)
    print_own_thresholds(rows, calibration)


def read_clips(path: Path, folds: dict[str, int | None]) -> list[Example]:
    """Read a manifest of labelled videos; their fold is that of the pictures of their source.

    Raises:
        SystemExit: the file, a column or a label is missing.
    """
    rows = read_labelled_rows(path, CLIP_COLUMNS)
    return [
        Example(
            path.parent / row["path"],
            int(row["label"]),
            row["source"],
            row["generator"],
            row["group"],
            "",
            fold=folds.get(row["source"]),
        )
        for row in rows
    ]


def score_clips(clips: list[Example], detector_of: Callable[[int | None], PictureDetector], folder: Path) -> list[Row]:
    """Run each clip through the server's chain, without its sound, which has no part in the verdict.

    Args:
        clips: labelled videos.
        detector_of: returns the detector for the clips of a fold.
        folder: that the paths in the rows are relative to.
    """
    rows = []
    for clip in tqdm(clips, desc="clips", unit="clip"):
        detector = detector_of(clip.fold)
        with open_media(clip.path) as video:
            found = detect_video(video, detector)
        name = Path(os.path.relpath(clip.path, folder)).as_posix()
        excluded = [reason for reason in found.reasons if reason is not Reason.BETWEEN_THRESHOLDS]
        unseen = is_unseen(detector, clip.source)
        rows.append(_row(clip, name, CLIP, unseen, found.frames_seen, found.logit, excluded))
    return rows


def score_frames(
    examples: list[Example], detector_of: Callable[[int | None], PictureDetector], folder: Path
) -> list[Row]:
    """Score the pictures whose groups make tracks, as they are stored; one network for each fold."""
    chosen = [example for members in _groups_of(examples) for example in members]
    rows: list[Row] = []
    for fold in sorted({example.fold for example in chosen}, key=str):
        members = [example for example in chosen if example.fold == fold]
        detector = detector_of(fold)
        scored = score(detector, members, folder, degradations=(UNDEGRADED,))
        for row, example in zip(scored, members, strict=True):
            unseen = is_unseen(detector, example.source)
            rows.append(row | {"kind": example.kind, "fold": example.fold, "unseen": unseen})
    return rows


def read_picture_scores(path: Path) -> list[Row]:
    """Read the rows of undegraded pictures, scored by networks that did not learn from their fold."""
    return [row | {"unseen": True} for row in read_scores(path) if row["delivery"] == UNDEGRADED]


def join_tracks(pictures: Iterable[Row], calibration: Calibration) -> list[Row]:
    """Fuse the pictures of each group, label and generator as the frames of one track.

    Args:
        pictures: rows of scored pictures, of any kind; `unseen`, whether their network had not learned from the source.
        calibration: decides on single frames.

    Returns:
        A row for each group of at least MIN_TRACK_FRAMES pictures that are frames of a video.
    """
    rows = []
    for members in _groups_of(pictures):
        members = sorted(members, key=lambda row: str(row["path"]))
        usable = [row for row in members if not exclusion_reasons(row)]
        if usable:
            frames = [_frame(index, row["logit"], calibration) for index, row in enumerate(usable)]
            track = fuse_frames(frames, calibration)
            logit = track.logit
            excluded: list[Reason] = [reason for reason in track.reasons if reason is not Reason.BETWEEN_THRESHOLDS]
        else:
            logit = robust_mean(np.array([row["logit"] for row in members]))
            excluded = sorted({reason for row in members for reason in exclusion_reasons(row)})
        first = members[0]
        example = Example(
            Path(first["path"]), first["label"], first["source"], first["generator"], first["group"], "",
            kind=first["kind"], fold=first["fold"],
        )  # fmt: skip
        unseen = all(row["unseen"] for row in members)
        rows.append(_row(example, first["group"], TRACK, unseen, len(usable), logit, excluded))
    return rows


def is_unseen(detector: PictureDetector, source: str) -> bool:
    """Return whether a network has not learned from a source, by the account of its training and of its parts."""
    learned = learned_sources(detector.engine.spec.training)
    return bool(learned) and source not in learned


def measure_videos(rows: list[Row]) -> dict[str, Any]:
    """Return the error rates of scored videos, each with its n and interval over groups.

    Returns:
        n, n_real, n_fake; auc; false_alarms, real videos called deepfakes; called_real, deepfakes called real; found,
        deepfakes called deepfakes; inconclusive, of all; n_unseen, those of sources that the network had not learned
        from; kinds, the same by kind. Rates without a video are None. Empty without rows.
    """
    if not rows:
        return {}
    kinds = sorted({row["kind"] for row in rows if row["kind"]})
    by_kind = [{"kind": kind, **_rates([row for row in rows if row["kind"] == kind])} for kind in kinds]
    return _rates(rows) | {"kinds": by_kind}


def _rates(rows: list[Row]) -> dict[str, Any]:
    label, logit, verdict, group = (
        np.array([row[name] for row in rows]) for name in ("label", "logit", "verdict", "group")
    )

    def rate(hits: np.ndarray, chosen: np.ndarray) -> dict[str, Any] | None:
        return proportion(hits[chosen], group[chosen]).to_dict() if chosen.any() else None

    real, fake, every = label == 0, label == 1, np.ones(len(rows), bool)
    return {
        "n": len(rows),
        "n_real": int(real.sum()),
        "n_fake": int(fake.sum()),
        "n_unseen": sum(row["unseen"] for row in rows),
        "auc": auc(label, logit, group).to_dict() if real.any() and fake.any() else None,
        "false_alarms": rate(verdict == Verdict.DEEPFAKE, real),
        "called_real": rate(verdict == Verdict.REAL, fake),
        "found": rate(verdict == Verdict.DEEPFAKE, fake),
        "inconclusive": rate(verdict == Verdict.INCONCLUSIVE, every),
    }


def write_video_scores(rows: list[Row], path: Path) -> None:
    """Write rows as CSV with VIDEO_SCORE_COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, VIDEO_SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_video_tables(metrics: dict[str, Any]) -> None:
    """Print n, AUC and the rates of clips and tracks, and of each kind of tracks."""
    rates = ("auc", "false_alarms", "called_real", "found", "inconclusive")
    counts = ("n real", "n fake", "of sources not learned from")
    called = ("reals called deepfake", "fakes called real", "fakes called deepfake")
    print(format_header("videos", *counts, "AUC", *called, "inconclusive"))
    for name in ("clips", "tracks"):
        if not (measured := metrics[name]):
            continue
        rows = [(name, measured)] + [(f"{name}: {row['kind']}", row) for row in measured["kinds"]]
        for title, row in rows:
            shown = (row[count] for count in ("n_real", "n_fake", "n_unseen"))
            print(format_row(title, *shown, *(format_estimate(row[rate]) for rate in rates)))


def print_own_thresholds(rows: list[Row], calibration: Calibration) -> None:
    """Print the rates with the thresholds of pictures, and with thresholds chosen on the tracks of other sources."""
    tracks = [row for row in rows if row["form"] == TRACK]
    sources = [
        {row["source"] for row in tracks if row["label"] == label and not exclusion_reasons(row)} for label in (0, 1)
    ]
    if min(map(len, sources)) < 2:
        print("Thresholds of their own were not tried: each label needs tracks of at least two sources.")
        return
    print(format_header("thresholds", "videos", "reals called deepfake", "fakes called real", "inconclusive"))
    own = cross_fit_thresholds(rows, calibration)
    for name, decided in (("of pictures", rows), ("of other sources' tracks", own)):
        for form in (CLIP, TRACK):
            measured = _rates([row for row in decided if row["form"] == form])
            row = (format_estimate(measured[rate]) for rate in ("false_alarms", "called_real", "inconclusive"))
            print(format_row(name, f"{form}s, n {measured['n']}", *row))
    reals = sum(row["label"] == 0 for row in tracks)
    print(
        f"Thresholds of their own rest on {reals} real tracks: without a single false alarm the {CONFIDENCE:.0%} "
        f"interval would still reach {_highest_rate(reals):.1%}, the limit is {UNSEEN_LIMITS.false_alarms:.0%}."
    )


def cross_fit_thresholds(rows: list[Row], calibration: Calibration) -> list[Row]:
    """Decide each row by thresholds chosen on the tracks of all other sources.

    Args:
        rows: of clips and tracks; the tracks have both labels.
        calibration: gives the probabilities; its thresholds are replaced.
    """
    tracks = [row for row in rows if row["form"] == TRACK]
    decided = []
    for source in sorted({row["source"] for row in rows}):
        others = [row for row in tracks if row["source"] != source and not exclusion_reasons(row)]
        probabilities = np.array([row["probability"] for row in others])
        labels = np.array([row["label"] for row in others])
        own = choose_thresholds(
            [(probabilities, labels)], max_false_alarms=UNSEEN_LIMITS.false_alarms, max_misses=UNSEEN_LIMITS.misses
        )
        thresholds = replace(calibration, threshold_real=own[0], threshold_fake=own[1])
        for row in (row for row in rows if row["source"] == source):
            verdict = Verdict.INCONCLUSIVE if exclusion_reasons(row) else classify(row["probability"], thresholds)
            decided.append(row | {"verdict": str(verdict)})
    return decided


def _highest_rate(n: int) -> float:
    return proportion(np.zeros(n), np.arange(n)).high


def _fold_detectors(pattern: str | None, default: PictureDetector) -> Callable[[int | None], PictureDetector]:
    """Return a function from a fold to the detector of the network that did not learn from it."""

    @cache
    def detector_of(fold: int | None) -> PictureDetector:
        if pattern is None or fold is None:
            return default
        return load_picture_detector(pattern.format(fold=fold), threads=os.cpu_count())

    return detector_of


def _groups_of(pictures: Iterable[Any]) -> list[list[Any]]:
    """Return the examples or rows of each group, label and generator with at least MIN_TRACK_FRAMES of TRACK_KINDS."""
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for picture in pictures:
        values = picture if isinstance(picture, dict) else vars(picture)
        if values["kind"] in TRACK_KINDS:
            groups[tuple(values[name] for name in ("group", "label", "generator"))].append(picture)
    return [members for members in groups.values() if len(members) >= MIN_TRACK_FRAMES]


def _frame(index: int, logit: float, calibration: Calibration) -> TrackFrame:
    decision = decide(logit, (), calibration)
    return TrackFrame(float(index), index, (0, 0, 0, 0), logit, decision.probability, decision.verdict)


def _row(
    example: Example, name: str, form: str, unseen: bool, frames: int, logit: float, reasons: Iterable[str]
) -> Row:
    return {
        "path": name,
        "form": form,
        "label": example.label,
        "source": example.source,
        "generator": example.generator,
        "kind": example.kind,
        "group": example.group,
        "fold": example.fold,
        "unseen": unseen,
        "frames": frames,
        "logit": round(logit, 5),
        "reasons": ";".join(reasons),
    }
