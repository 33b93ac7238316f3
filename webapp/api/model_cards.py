"""What is known about the models behind the verdicts: their hashes, and their errors on kinds they had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector import __version__
from detector.media import MEDIA
from webapp.performance import experimental_sentence, read_metrics, read_unseen_metrics, values_at

FIGURE_KEYS = ("value", "low", "high", "n")
# By medium: our name of a figure, and where the metrics of unseen kinds have it.
UNSEEN_FIGURES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "image": {
        "auc": ("macro_family",),
        "auc_matched": ("macro_family_matched",),
        "real_called_deepfake": ("tiers", "stored", "false_alarms"),
        "deepfake_called_real": ("tiers", "stored", "called_real"),
        "inconclusive": ("tiers", "stored", "inconclusive"),
    },
    "video": {
        "auc": ("clips", "auc"),
        "real_called_deepfake": ("clips", "false_alarms"),
        "deepfake_called_real": ("clips", "called_real"),
        "inconclusive": ("clips", "inconclusive"),
    },
    "audio": {
        "auc": ("folds", "generator", "stored", "auc"),
        "real_called_deepfake": ("folds", "generator", "stored", "false_alarms"),
        "deepfake_called_real": ("folds", "generator", "stored", "misses"),
        "inconclusive": ("folds", "generator", "stored", "inconclusive"),
    },
}
MEASURED_ON = {
    "image": "Pictures of kinds and sources that were left out of training.",
    "video": "Videos, most of them of collections that were left out of training.",
    "audio": "Recordings of speakers and generators that were left out of training.",
}
TERMS = "Research and non-commercial use; see MODEL_CARD.md."
INTENDED_USE = "A verdict is a hint, not proof. Do not accuse anyone on it alone."


def read_model_card(folder: Path) -> dict[str, Any]:
    """Return the models with their hashes and figures.

    Args:
        folder: with the metrics files.
    """
    return {
        "version": __version__,
        "intended_use": INTENDED_USE,
        "terms": TERMS,
        "models": [_read_model(folder, media) for media in MEDIA],
    }


def _read_model(folder: Path, media: str) -> dict[str, Any]:
    metrics = read_metrics(folder, media)
    unseen = read_unseen_metrics(folder, metrics, media) if MEDIA[media].unseen_metrics_file else metrics
    model, pictures = values_at(metrics, "model"), values_at(read_metrics(folder), "model")
    is_of_pictures = "sha256_h5" in model and model["sha256_h5"] == pictures.get("sha256_h5")
    thresholds = pictures if is_of_pictures else model  # videos are scored with the network of pictures
    figures = {name: _figure(values_at(unseen, *keys)) for name, keys in UNSEEN_FIGURES[media].items()}
    return {
        "media": media,
        "name": thresholds.get("name"),
        "sha256": model.get("sha256_h5"),
        "threshold_real": thresholds.get("threshold_real"),
        "threshold_fake": thresholds.get("threshold_fake"),
        "measured_on": MEASURED_ON[media],
        "measured_at": (unseen or {}).get("created"),
        "figures": {name: figure for name, figure in figures.items() if figure},
        "kinds": [
            {"kind": kind["kind"], "auc": _figure(kind.get("auc") or {})} for kind in (unseen or {}).get("kinds", ())
        ],
        "note": experimental_sentence(metrics, model.get("sha256_h5", "")) if media == "video" else "",
    }


def _figure(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    return {key: measured.get(key) for key in FIGURE_KEYS} if measured.get("value") is not None else None
