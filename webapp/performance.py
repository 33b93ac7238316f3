"""What was measured about the models: the metrics in visualizations/ and the plots beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector import Verdict
from detector.text import format_count, format_percent
from webapp.template_filters import format_interval

METRICS_FILES = {"image": "metrics.json", "video": "metrics.json", "audio": "voice_metrics.json"}
# Where they tell how many were left undecided, and how often each verdict is wrong; and who was asked, in words.
PICTURES = {
    Verdict.INCONCLUSIVE: (("overall", "inconclusive"), "held-out pictures"),
    Verdict.DEEPFAKE: (("verdicts", "deepfake", "wrong"), "held-out real pictures"),
    Verdict.REAL: (("verdicts", "real", "wrong"), "held-out deepfakes"),
}
VOICES = {
    Verdict.INCONCLUSIVE: (("folds", "generator", "stored", "inconclusive"), "recordings of voices it had not heard"),
    Verdict.DEEPFAKE: (("folds", "generator", "stored", "false_alarms"), "real recordings of voices it had not heard"),
    Verdict.REAL: (("folds", "generator", "stored", "misses"), "fakes by generators it had not heard"),
}
OUTCOMES = {
    Verdict.INCONCLUSIVE: "were left undecided like this one",
    Verdict.DEEPFAKE: "were wrongly called a deepfake",
    Verdict.REAL: "were wrongly called real",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plot:
    """A picture that scripts/plot.py draws.

    Attributes:
        name: of the file, without .png.
        title, description: its caption, and what it shows for somebody who cannot see it.
        is_detail: it is shown only to those who ask for more.
    """

    name: str
    title: str
    description: str
    is_detail: bool = False


PLOTS = (
    Plot("roc", "ROC curve", "The share of fakes caught against the share of real pictures wrongly accused."),
    Plot("auc", "AUC per source", "The area under the ROC curve for each source of held-out pictures, with intervals."),
    Plot("cm", "Confusion matrix", "How many held-out real pictures and fakes got each of the three verdicts."),
    Plot(
        "acc",
        "Accuracy per epoch",
        "Accuracy after each epoch, on pictures it learns from and on tuning pictures.",
    ),
    Plot(
        "calibration",
        "Calibration",
        "Of the pictures that got about the same probability, how many were fakes; on the dotted line it means what "
        "it says. Below, how many pictures that is.",
        is_detail=True,
    ),
    Plot(
        "roc_sources",
        "ROC curve per source",
        "Each source against all pictures of the other kind; the scale is stretched where few real pictures are "
        "wrongly accused.",
        is_detail=True,
    ),
    Plot(
        "histogram",
        "Scores",
        "The probabilities that real pictures and fakes got, and the two thresholds between which no verdict is given.",
        is_detail=True,
    ),
    Plot(
        "deliveries",
        "Errors by delivery",
        "Wrong verdicts and undecided pictures: as stored, as JPEG of quality 50, halved and doubled, and blurred.",
        is_detail=True,
    ),
    Plot(
        "errors_size",
        "Errors by size of the face",
        "Wrong verdicts and undecided pictures from small faces to large ones. Sources differ in size, so this also "
        "compares sources.",
        is_detail=True,
    ),
    Plot(
        "errors_quality",
        "Errors by JPEG quality",
        "Wrong verdicts and undecided pictures by how strongly the file was compressed. Sources differ in that, too.",
        is_detail=True,
    ),
    Plot(
        "ablations",
        "What each part is worth",
        "The same short training with one part left out at a time, beside the whole.",
        is_detail=True,
    ),
)


def read_metrics(folder: Path, media: str = "image") -> dict[str, Any] | None:
    """Return what scripts/evaluate.py or evaluate_audio.py wrote, None when it is not there or cannot be read."""
    path = folder / METRICS_FILES[media]
    try:
        metrics = _read_json(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is not read: %s", path, error)
        return None
    return metrics if isinstance(metrics, dict) else None


@lru_cache(maxsize=2)
def _read_json(path: Path, _modified_ns: int) -> Any:
    return json.loads(path.read_text())


def plots_in(folder: Path) -> list[Plot]:
    """Return the plots that have been drawn."""
    return [plot for plot in PLOTS if (folder / f"{plot.name}.png").is_file()]


def measures(metrics: Mapping[str, Any] | None, model_sha256: str) -> bool:
    """Tell whether the figures were measured with this very model."""
    return metrics is not None and model_sha256 in values_at(metrics, "model").values()


def error_sentence(metrics: Mapping[str, Any] | None, verdict: str, model_sha256: str, *, media: str = "image") -> str:
    """Say how often such a verdict is wrong, or that this was not measured.

    Args:
        metrics: from `read_metrics`.
        verdict: of the file.
        model_sha256: of the model that gave it.
        media: "image", "video", of which only the single pictures were measured, or "audio".
    """
    unknown = "How often such a verdict is wrong has not been measured for this model."
    if not measures(metrics, model_sha256):
        return unknown
    way, asked = (VOICES if media == "audio" else PICTURES)[Verdict(verdict)]
    measured = values_at(metrics, *way)
    if "value" not in measured or "n" not in measured:
        return unknown
    range_words = format_interval({**measured, "n": None})
    outcome = OUTCOMES[Verdict(verdict)] + (f" ({range_words})" if range_words else "")
    sentence = f"Of {format_count(measured['n'])} {asked}, {format_percent(measured['value'])} {outcome}."
    return f"Videos as a whole were not measured, only single pictures. {sentence}" if media == "video" else sentence


def values_at(metrics: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Go down into nested mappings; empty where something is missing, so that no page fails over a figure."""
    values: Any = metrics
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}
