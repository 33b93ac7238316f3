"""Predictions of a voice cross-validation for the tests, drawn from normal distributions."""

import numpy as np

from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_manifest import FAMILY, GENERATOR
from training.voice_predictions import PREDICTION_COLUMNS


def draw_rows(count=40, gap=2.0, parts=4, seed=0, degradations=tuple(WAVEFORM_DEGRADATIONS)):
    """Return rows as train_audio.py writes them: two networks predict each real recording, one each fake.

    The logits of reals and fakes have a standard deviation of 1 and means that lie `gap` apart.
    """
    rng, rows = np.random.default_rng(seed), []
    for recording in range(count):
        label, part = recording % 2, recording // 2 % parts
        for held in (GENERATOR, FAMILY):
            for left_out in ["one"] if label else ["one", "two"]:
                for degradation in degradations:
                    values = [recording, label, "s", "g", f"p{recording // 4}", held, left_out, part, degradation]
                    values += [rng.normal(gap * label, 1), ""]
                    rows.append(dict(zip(PREDICTION_COLUMNS, values, strict=True)))
    return rows
