"""Spare the tests of pages and reports the time of scoring the same few faces hundreds of times."""

from hashlib import sha256

import numpy as np


def remember_scores(engine):
    """Let an engine, which is changed in place, return what it returned before for the same batch."""
    run, found = engine.run, {}

    def run_once(batch):
        key = (batch.shape, batch.dtype.str, sha256(np.ascontiguousarray(batch)).digest())
        if key not in found:
            found[key] = run(batch)
        logits, class_maps = found[key]
        return logits.copy(), class_maps.copy()

    engine.run = run_once
