"""Scores of families and sources left out: reading them, and the reference scores made of them.

`scripts/cross_validate.py` writes them: each picture was scored by the network of the fold that it was left out of.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detector.media.degradations import UNDEGRADED
from detector.models.calibration import Calibration
from detector.models.reference_scores import ReferenceScores
from detector.pictures.quality import MIN_FACE_PX

UNSEEN_SPLIT = "folds"  # in the reference scores
UNSEEN_COLUMN_TYPES: dict[str, Callable[[str], Any]] = {"label": int, "logit": float, "face_px": int, "fold": int}
NEEDED_COLUMNS = ("path", "label", "source", "group", "delivery", "logit", "reasons", "face_px", "fold")


def read_unseen_scores(path: Path) -> list[dict[str, Any]]:
    """Read the scores of a cross-validation: a row for each picture and degradation.

    Returns:
        Rows with at least NEEDED_COLUMNS; those of UNSEEN_COLUMN_TYPES are numbers, the others text.

    Raises:
        SystemExit: the file is missing, lacks a column, holds something else than a number in one of numbers, or covers
            a single fold, which no network can have been trained without.
    """
    if not path.is_file():
        raise SystemExit(f"There is no {path}. Write it with: python scripts/cross_validate.py")
    with open(path, newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    if not rows or not set(NEEDED_COLUMNS) <= set(rows[0]):
        raise SystemExit(f"{path} is empty or lacks one of the columns {', '.join(NEEDED_COLUMNS)}.")
    try:
        typed = [row | {name: number(row[name]) for name, number in UNSEEN_COLUMN_TYPES.items()} for row in rows]
    except ValueError as error:
        raise SystemExit(f"{path} does not hold the scores of a cross-validation: {error}.") from error
    if len({row["fold"] for row in typed}) < 2:
        raise SystemExit(f"{path} holds the scores of a single fold; a cross-validation has at least two.")
    return typed


def unseen_reference_scores(rows: list[dict[str, Any]], calibration: Calibration, model_sha256: str) -> ReferenceScores:
    """Return the scores of undegraded pictures of kinds left out, which a new picture is compared with.

    Args:
        rows: of `read_unseen_scores`, without pictures that no verdict is given for.
        calibration: of the model that ships; it turns the logits of the folds' networks into probabilities.
        model_sha256: of that model's model.h5.
    """
    stored = [row for row in rows if row["delivery"] == UNDEGRADED]
    labels, logits, face_px, groups = (
        np.array([row[name] for row in stored]) for name in ("label", "logit", "face_px", "group")
    )
    return ReferenceScores.from_scores(
        labels=labels,
        probabilities=np.asarray(calibration.probability(logits)),
        face_px=np.where(face_px >= MIN_FACE_PX, face_px, 0),
        groups=groups,
        split=UNSEEN_SPLIT,
        model_sha256=model_sha256,
        unseen=True,
    )
