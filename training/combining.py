"""Combine several trained models into one whose logit is the mean of theirs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detector.models.engines import KerasEngine
from detector.models.spec import ModelSpec
from detector.results import ModelError
from training.calibrating import UNCALIBRATED
from training.networks import average_networks

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def combine(paths: list[Path]) -> tuple[Any, ModelSpec]:
    """Load models and average their logits.

    Args:
        paths: model.h5 files, trained on crops of the same size and margin.

    Returns:
        The Keras network, and its spec, which is not calibrated.

    Raises:
        ModelError: a model cannot be read, or the models need different crops.
    """
    engines = [KerasEngine(path) for path in paths]
    if len({engine.spec.face.crop_margin for engine in engines}) > 1:
        raise ModelError("Models that are combined must be trained on crops of the same margin.")
    network = average_networks([engine.network for engine in engines])
    last = engines[-1].spec
    members = [{"sha256": engine.model_sha256, **engine.spec.training} for engine in engines]
    names = ("sources", "fit", "tune", "curve", "date")
    account: dict[str, Any] = {name: last.training[name] for name in names if name in last.training}
    spec = ModelSpec("ensemble", last.input, UNCALIBRATED, {**account, "members": members})
    return network, spec
