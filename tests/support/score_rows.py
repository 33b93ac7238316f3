"""Rows of scores.csv made by hand."""

import numpy as np


def make_row(label, generator, logit, verdict="inconclusive", **others):
    """Return a row without its group; the probability is that of the logit."""
    probability = 1 / (1 + np.exp(-logit))
    row = {"label": label, "generator": generator, "source": generator, "logit": logit, "probability": probability}
    return {**row, "verdict": verdict, "delivery": "stored", "faces": 1, "face_px": 200, **others}


def with_own_groups(rows):
    """Return the rows, each in a group of its own."""
    return [row | {"group": f"group{number}"} for number, row in enumerate(rows)]
