"""Combine several trained models into one whose logit is the mean of theirs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.models.engines import KerasEngine
from detector.models.spec import ModelSpec
from detector.results import ModelError
from training.calibrating import UNCALIBRATED
from training.networks import average_networks, member_networks

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def combine(paths: list[Path], chosen: tuple[int, ...] = (), sharpness_offset: float = 0.0) -> tuple[Any, ModelSpec]:
    """Load models and average their logits; the members of a combined model count as models of their own.

    Args:
        paths: model.h5 files, trained on crops of the same margin; the largest size of these crops is the input's.
        chosen: numbers of the networks to combine, counted from 0 over all models; by default all.
        sharpness_offset: of `average_networks`; one that a combined model has already is not kept.

    Returns:
        The Keras network, and its spec, which is not calibrated.

    Raises:
        ModelError: a model cannot be read, there is no network of a chosen number, or the models need different crops.
    """
    engines = [KerasEngine(path) for path in paths]
    if len({engine.spec.face.crop_margin for engine in engines}) > 1:
        raise ModelError("Models that are combined must be trained on crops of the same margin.")
    networks = [network for engine in engines for network in member_networks(engine.network)]
    accounts = [account for engine in engines for account in _member_accounts(engine)]
    if unknown := set(chosen) - set(range(len(networks))):
        raise ModelError(f"There is no network {min(unknown)}; the models hold {len(networks)}, counted from 0.")
    places = chosen or range(len(networks))
    network = average_networks([networks[i] for i in places], sharpness_offset)
    last = engines[-1].spec
    names = ("sources", "fit", "tune", "curve", "date")
    account: dict[str, Any] = {name: last.training[name] for name in names if name in last.training}
    account["members"] = [accounts[i] for i in places]
    if sharpness_offset:
        account["sharpness_offset"] = sharpness_offset
    face = replace(last.face, size_px=network.input_shape[1])
    return network, ModelSpec("ensemble", face, UNCALIBRATED, account)


def learned_sources(account: Any) -> set[str]:
    """Return the sources in an account of training, and in those of the members and weights that it names."""
    parts = list(account.values()) if isinstance(account, dict) else account if isinstance(account, list) else []
    found: set[str] = set().union(*map(learned_sources, parts))
    if isinstance(account, dict) and isinstance(account.get("sources"), dict):
        found |= {name.rpartition(" ")[0] for name in account["sources"]}  # "dfdc fake"
    return found


def _member_accounts(engine: KerasEngine) -> list[dict[str, Any]]:
    account = engine.spec.training
    return list(account.get("members") or [{"sha256": engine.model_sha256, **account}])
