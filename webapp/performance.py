"""The measured performance of the models: metrics and plots in visualizations/."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector import Verdict
from detector.media import MEDIA
from detector.text import format_count, format_percent
from webapp.template_filters import format_interval

# By verdict: the keys of the rate in the metrics, and the files that were measured, in words.
PICTURES = {
    Verdict.INCONCLUSIVE: (("overall", "inconclusive"), "held-out pictures"),
    Verdict.DEEPFAKE: (("verdicts", "deepfake", "wrong"), "held-out real pictures"),
    Verdict.REAL: (("verdicts", "real", "wrong"), "held-out deepfakes"),
}
VOICES = {
    Verdict.INCONCLUSIVE: (("folds", "generator", "stored", "inconclusive"), "recordings of unseen speakers"),
    Verdict.DEEPFAKE: (("folds", "generator", "stored", "false_alarms"), "real recordings of unseen speakers"),
    Verdict.REAL: (("folds", "generator", "stored", "misses"), "fakes by unseen generators"),
}
OUTCOME_PHRASES = {
    Verdict.INCONCLUSIVE: "were inconclusive like this one",
    Verdict.DEEPFAKE: "were wrongly called a deepfake",
    Verdict.REAL: "were wrongly called real",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plot:
    """A plot that scripts/plot.py draws.

    Attributes:
        name: file name without .png.
        title, description: its caption; together they are the text alternative.
        is_detail: shown under "More plots".
    """

    name: str
    title: str
    description: str
    is_detail: bool = False


PLOTS = (
    Plot("roc", "ROC curve", "The true positive rate against the false positive rate."),
    Plot("auc", "AUC per source", "The area under the ROC curve for each source of held-out pictures, with intervals."),
    Plot("cm", "Confusion matrix", "How many held-out real pictures and fakes got each of the three verdicts."),
    Plot(
        "acc",
        "Accuracy per epoch",
        "Accuracy after each epoch, on training and on tuning pictures.",
    ),
    Plot(
        "calibration",
        "Calibration",
        "The proportion of fakes among pictures with about the same probability. On the dotted line both agree. "
        "Below, the number of pictures.",
        is_detail=True,
    ),
    Plot(
        "roc_sources",
        "ROC curve per source",
        "Each source against all pictures of the other class; the scale is enlarged at low false positive rates.",
        is_detail=True,
    ),
    Plot(
        "histogram",
        "Scores",
        "The probabilities of real pictures and fakes. Between the two thresholds the verdict is inconclusive.",
        is_detail=True,
    ),
    Plot(
        "deliveries",
        "Errors by degradation",
        "Wrong and inconclusive verdicts: as stored, as JPEG of quality 50, halved and doubled, and blurred.",
        is_detail=True,
    ),
    Plot(
        "errors_size",
        "Errors by size of the face",
        "Wrong and inconclusive verdicts from small to large faces. Sources differ in size, so this also compares "
        "sources.",
        is_detail=True,
    ),
    Plot(
        "errors_quality",
        "Errors by JPEG quality",
        "Wrong and inconclusive verdicts by the strength of the compression. Sources differ in that, too.",
        is_detail=True,
    ),
    Plot(
        "ablations",
        "Ablation study",
        "The same short training with one part left out at a time, and with all parts.",
        is_detail=True,
    ),
)


def read_metrics(folder: Path, media: str = "image") -> dict[str, Any] | None:
    """Return the metrics that were measured on a medium; None if the file is missing or damaged."""
    path = folder / MEDIA[media].metrics_file
    try:
        metrics = _read_json(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    return metrics if isinstance(metrics, dict) else None


@lru_cache(maxsize=2)
def _read_json(path: Path, _modified_ns: int) -> Any:
    return json.loads(path.read_text())


def plots_in(folder: Path) -> list[Plot]:
    """Return the plots whose files exist."""
    return [plot for plot in PLOTS if (folder / f"{plot.name}.png").is_file()]


def is_measured_with(metrics: Mapping[str, Any] | None, model_sha256: str) -> bool:
    """Return whether the metrics belong to this model."""
    return model_sha256 in values_at(metrics, "model").values()


def error_sentence(metrics: Mapping[str, Any] | None, verdict: str, model_sha256: str, *, media: str = "image") -> str:
    """Return how often such a verdict is wrong, or that this was not measured, as a sentence.

    Args:
        metrics: from `read_metrics`.
        verdict: of the file.
        model_sha256: of the model behind the verdict.
        media: "image", "video" or "audio"; for videos only single pictures were measured.
    """
    unknown = "How often such a verdict is wrong has not been measured for this model."
    if not is_measured_with(metrics, model_sha256):
        return unknown
    keys, measured_files = (VOICES if media == "audio" else PICTURES)[Verdict(verdict)]
    measured = values_at(metrics, *keys)
    if "value" not in measured or "n" not in measured:
        return unknown
    range_words = format_interval({**measured, "n": None})
    outcome = OUTCOME_PHRASES[Verdict(verdict)] + (f" ({range_words})" if range_words else "")
    sentence = f"Of {format_count(measured['n'])} {measured_files}, {format_percent(measured['value'])} {outcome}."
    return f"Whole videos were not measured, only single pictures. {sentence}" if media == "video" else sentence


def values_at(metrics: Mapping[str, Any] | None, *keys: str) -> Mapping[str, Any]:
    """Return a nested mapping; an empty one if a key is missing, so that no page fails because of a figure."""
    values: Any = metrics
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}
