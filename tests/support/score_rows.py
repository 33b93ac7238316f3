"""Rows of scores.csv made by hand."""

import numpy as np

from training.scoring import FRACTIONS, SCORE_COLUMNS, WHOLE_NUMBERS


def complete_row(**values):
    """Return a row with all columns; those that are not given are 1 or "x"."""
    numbers = WHOLE_NUMBERS | FRACTIONS
    return {name: values.get(name, 1 if name in numbers else "x") for name in SCORE_COLUMNS}


def make_row(label, generator, logit, verdict="inconclusive", **others):
    """Return a row without its group; the probability is that of the logit."""
    probability = 1 / (1 + np.exp(-logit))
    row = {"label": label, "generator": generator, "source": generator, "logit": logit, "probability": probability}
    return {**row, "verdict": verdict, "delivery": "stored", "faces": 1, "face_px": 200, **others}


def with_own_groups(rows):
    """Return the rows, each in a group of its own."""
    return [row | {"group": f"group{number}"} for number, row in enumerate(rows)]
