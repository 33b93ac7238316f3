"""Scores of families and sources left out: reading them, and the reference scores made of them.

`scripts/cross_validate.py` writes them: each picture was scored by the network of the fold that it was left out of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detector.media.degradations import UNDEGRADED
from detector.models.calibration import Calibration
from detector.models.reference_scores import ReferenceScores
from detector.pictures.quality import MIN_FACE_PX
from training.scoring import read_scores
from training.tables import Row

UNSEEN_SPLIT = "folds"  # in the reference scores


def read_unseen_scores(path: Path) -> list[Row]:
    """Read the scores of a cross-validation: a row for each picture and degradation.

    Raises:
        SystemExit: `read_scores` refuses the file, a row has no fold, or there is a single fold, which no network can
            have been trained without.
    """
    rows = read_scores(path)
    folds = {row["fold"] for row in rows}
    if None in folds or len(folds) < 2:
        raise SystemExit(f"{path} is not of a cross-validation: every row needs a fold, and there are at least two.")
    return rows


def unseen_reference_scores(rows: list[Row], calibration: Calibration, model_sha256: str) -> ReferenceScores:
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
