"""Score the pictures of a manifest through the server's own chain: a row for each picture and degradation."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from detector.media.degradations import TIERS, UNDEGRADED
from detector.media.images import read_image
from detector.media.jpeg import read_jpeg_coding
from detector.models.reference_scores import ReferenceScores, read_reference_scores
from detector.models.spec import file_sha256
from detector.pictures.detect import MODEL_FILES, REFERENCE_SCORES_FILE, PictureDetector, load_picture_detector
from detector.pictures.faces import cut_square, whole_square
from detector.results import DetectorError, PictureDetection
from training.image_statistics import sharpness
from training.manifests import ROOT, Example, read_manifest, split_train_calibration
from training.runs import replace_file
from training.tables import VISUALIZATIONS, Row, collect_metrics, decide_row, print_metrics, reference_scores_from

SCORE_COLUMNS = (
    "path", "label", "source", "generator", "group", "delivery", "logit", "probability", "verdict", "faces", "reasons",
    "width_px", "height_px", "face_px", "jpeg_quality", "kind", "family", "fold", "sharpness",
)  # fmt: skip
WHOLE_NUMBERS = {"label", "faces", "width_px", "height_px", "face_px", "jpeg_quality", "fold"}
FRACTIONS = {"logit", "probability", "sharpness"}
MAY_BE_MISSING = {"jpeg_quality", "fold", "sharpness"}
CALIBRATION_SPLIT = "tune"
SPLIT_SCORES = "scores.csv"


@dataclass(frozen=True)
class EvaluationOptions:
    """The command line of evaluate.py.

    Attributes:
        manifest: manifest of labelled pictures
        split: val, tune (the calibration part of train), or another split of the manifest
        engine: onnx runs the exported file, keras the model.h5
        model: model file; by default the engine's own
        out: folder of scores.csv and metrics.json
        only_tables: score nothing; decide again on the rows of scores.csv, after the model was calibrated anew
        held_out: file of the reference scores; by default models/face.reference_scores.json for the shipped model on
            val with the default --out, otherwise none
    """

    manifest: Path = ROOT / "data" / "synthetic_data" / "manifest.csv"
    split: str = "val"
    engine: Literal["onnx", "keras"] = "onnx"
    model: Path | None = None
    out: Path = VISUALIZATIONS
    only_tables: bool = False
    held_out: Path | None = None

    def __post_init__(self) -> None:
        if self.held_out and self.split in ("train", CALIBRATION_SPLIT):
            raise ValueError(f"the split {self.split!r} is not held out: networks or thresholds were fitted on it")


def evaluate(options: EvaluationOptions) -> None:
    """Score a split, write scores.csv and metrics.json, and print the tables.

    Raises:
        SystemExit: a label is missing, or a picture or the model cannot be read.
    """
    examples = read_split(options.manifest, options.split)
    if {example.label for example in examples} != {0, 1}:
        raise SystemExit(f"The split {options.split!r} of {options.manifest} needs both real and fake pictures.")
    try:
        detector = load_scoring_detector(options.model, engine=options.engine)
        if options.only_tables:
            rows = read_rows_of(examples, options.manifest.parent, options.out / SPLIT_SCORES)
            rows = [decide_row(row, detector.engine.spec.calibration) for row in rows]
        else:
            rows = score(detector, examples, options.manifest.parent)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    model = {
        "sha256_h5": detector.engine.model_sha256,
        "sha256_file": file_sha256(options.model or MODEL_FILES[options.engine]),
        "engine": options.engine,
    }
    metrics = collect_metrics(rows, detector.engine.spec, model=model, split=options.split)
    options.out.mkdir(parents=True, exist_ok=True)
    replace_file(options.out / SPLIT_SCORES, partial(write_scores, rows))
    replace_file(options.out / "metrics.json", lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    stored = [row for row in rows if row["delivery"] == UNDEGRADED]
    replace_reference_scores(options, reference_scores_from(stored, options.split, detector.engine.model_sha256))
    print_metrics(metrics)


def read_split(manifest: Path, split: str) -> list[Example]:
    """Read the pictures of one split; `tune` is the part of `train` that calibrates, and that only heads learn from."""
    examples = read_manifest(manifest)
    return (
        split_train_calibration(examples)[1]
        if split == CALIBRATION_SPLIT
        else [example for example in examples if example.split == split]
    )


def load_scoring_detector(model: Path | None = None, *, engine: str = "onnx") -> PictureDetector:
    """Load a detector that `score` keeps busy: it scores a picture on each core, instead of one on all."""
    cores = os.cpu_count() or 1
    return load_picture_detector(model, engine=engine, threads=cores, streams=cores)


def score(
    detector: PictureDetector, examples: list[Example], folder: Path, *, degradations: Sequence[str] = tuple(TIERS)
) -> list[Row]:
    """Analyse every example after each degradation.

    Args:
        detector: analyses the pictures; shared by all threads.
        examples: labelled pictures.
        folder: that the paths in the rows are relative to.
        degradations: names from `TIERS`.

    Returns:
        Rows with the keys of SCORE_COLUMNS, by example and degradation.
    """

    def score_example(example: Example) -> list[Row]:
        image, quality = read_image(example.path), jpeg_quality(example.path)
        rows = []
        for degradation in degradations:
            degrade = TIERS[degradation]
            found = detector.detect(degrade(image) if degrade else image)
            rows.append(
                {
                    "path": _relative(example.path, folder),
                    "label": example.label,
                    "source": example.source,
                    "generator": example.generator,
                    "group": example.group,
                    "delivery": degradation,
                    "logit": round(found.logit, 5),
                    "probability": round(found.probability, 6),
                    "verdict": str(found.verdict),
                    "faces": len(found.faces),
                    "reasons": ";".join(found.reasons),
                    "width_px": found.width_px,
                    "height_px": found.height_px,
                    "face_px": found.faces[0].size_px if found.faces else 0,  # of the face that gave the logit
                    "jpeg_quality": quality,  # of the stored file
                    "kind": example.kind,
                    "family": example.family,
                    "fold": example.fold,
                    "sharpness": face_sharpness(found),  # of the picture as analysed, not scaled
                }
            )
        return rows

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = tqdm(pool.map(score_example, examples), total=len(examples), desc="scoring", unit="picture")
        return [row for rows in scored for row in rows]


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def face_sharpness(found: PictureDetection) -> float | None:
    """Return the sharpness of the face that gave the logit; None if it is too small to have one."""
    square = found.faces[0].crop_box if found.faces else whole_square(found.width_px, found.height_px)
    try:
        return round(sharpness(cut_square(found.image, square)), 4)
    except ValueError:
        return None


def jpeg_quality(path: Path) -> int | None:
    """Return the quality a JPEG file was saved with, 1 to 100; None for other formats."""
    coding = read_jpeg_coding(path.read_bytes())
    return coding.quality if coding else None


def read_scores(path: Path) -> list[Row]:
    """Read the rows that `write_scores` wrote, each value as `score` gave it.

    Raises:
        SystemExit: the file, its rows or one of SCORE_COLUMNS is missing, or a column of numbers holds something else.
    """
    if not path.is_file():
        raise SystemExit(f"There is no file of scores {path}. Write it with: python scripts/cross_validate.py")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        if missing := set(SCORE_COLUMNS) - set(reader.fieldnames or ()):
            raise SystemExit(f"The scores {path} lack the columns {', '.join(sorted(missing))}.")
        try:
            rows = [{name: _value(name, row[name]) for name in SCORE_COLUMNS} for row in reader]
        except ValueError as error:
            raise SystemExit(f"The scores {path} hold something else than a number: {error}.") from error
    if not rows:
        raise SystemExit(f"The file of scores {path} is empty.")
    return rows


def read_rows_of(examples: list[Example], folder: Path, path: Path) -> list[Row]:
    """Read the scores of the same examples that an earlier call of `score` gave.

    Raises:
        SystemExit: `read_scores` refuses the file, or it holds the scores of other pictures.
    """
    rows = read_scores(path)
    if {row["path"] for row in rows} != {_relative(example.path, folder) for example in examples}:
        raise SystemExit(f"The scores {path} are not those of this split's pictures.")
    return rows


def write_scores(rows: list[Row], path: Path) -> None:
    """Write rows as CSV with SCORE_COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def replace_reference_scores(options: EvaluationOptions, scores: ReferenceScores) -> None:
    """Write the reference scores: to the requested file, or beside the shipped model after its full evaluation.

    Shipped scores of the same model that say more are kept.
    """
    if options.held_out:
        replace_file(options.held_out, scores.write)
        return
    is_shipped = options.model is None and options.split == "val" and options.out.resolve() == VISUALIZATIONS
    if is_shipped and not holds_better_scores(REFERENCE_SCORES_FILE, scores):
        replace_file(REFERENCE_SCORES_FILE, scores.write)


def holds_better_scores(path: Path, scores: ReferenceScores) -> bool:
    """Return whether a file holds scores of the same model that say more: of kinds left out, or of more pictures."""
    if not path.is_file() or (kept := read_reference_scores(path)).model_sha256 != scores.model_sha256:
        return False
    held, new = ((each.unseen, sum(len(size.probabilities) for size in each.sizes)) for each in (kept, scores))
    return held > new


def _value(name: str, text: str) -> str | float | None:
    """Return a value of scores.csv as `score` gave it."""
    if name in MAY_BE_MISSING and not text:
        return None
    return int(text) if name in WHOLE_NUMBERS else float(text) if name in FRACTIONS else text
