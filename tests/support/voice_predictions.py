"""Predictions of a voice cross-validation for the tests, drawn from normal distributions."""

import numpy as np

from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_manifest import FAMILY, GENERATOR
from training.voice_predictions import PREDICTION_COLUMNS


def draw_rows(count=40, gap=2.0, parts=4, seed=0, degradations=tuple(WAVEFORM_DEGRADATIONS)):
    """Return rows as train_audio.py writes them: a prediction of each recording for each kind of fold.

    Reals and fakes alternate, and so do two speakers of each page. The logits of reals and fakes have a standard
    deviation of 1 and means that lie `gap` apart.
    """
    rng, rows = np.random.default_rng(seed), []
    for recording in range(count):
        label, page = recording % 2, recording // 4
        for held in (GENERATOR, FAMILY):
            for degradation in degradations:
                values = [recording, label, "s", f"page {page}", "HGAN" if label else "human", f"p{recording // 4}"]
                values += [held, "one" if label else "", page % parts, degradation, rng.normal(gap * label, 1), ""]
                rows.append(dict(zip(PREDICTION_COLUMNS, values, strict=True)))
    return rows
