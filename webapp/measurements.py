"""What was measured about the model: visualizations/metrics.json and the plots beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector import Verdict, count, percent
from webapp.wording import interval

METRICS_FILE = "metrics.json"

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


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Return what scripts/evaluate.py wrote, None when it is not there or cannot be read."""
    path = folder / METRICS_FILE
    try:
        metrics = _read_json(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is not read: %s", path, error)
        return None
    return metrics if isinstance(metrics, dict) else None


@lru_cache(maxsize=1)
def _read_json(path: Path, _modified_ns: int) -> Any:
    return json.loads(path.read_text())


def plots_in(folder: Path) -> list[Plot]:
    """Return the plots that have been drawn."""
    return [plot for plot in PLOTS if (folder / f"{plot.name}.png").is_file()]


def measures(metrics: Mapping[str, Any] | None, model_sha256: str) -> bool:
    """Tell whether the figures were measured with this very model."""
    return metrics is not None and model_sha256 in values_at(metrics, "model").values()


def error_sentence(metrics: Mapping[str, Any] | None, verdict: str, model_sha256: str) -> str:
    """Say how often such a verdict is wrong, or that this was not measured.

    Args:
        metrics: from `read_metrics`.
        verdict: of the picture.
        model_sha256: of the model that gave it.
    """
    unknown = "How often such a verdict is wrong has not been measured for this model."
    if not measures(metrics, model_sha256):
        return unknown
    if verdict == Verdict.INCONCLUSIVE:
        measured = values_at(metrics, "overall", "inconclusive")
        sentence = "Of {n} held-out pictures, {share} were left undecided like this one{interval}."
    else:
        measured = values_at(metrics, "verdicts", verdict, "wrong")
        sentence = {
            Verdict.DEEPFAKE: "Of {n} held-out real pictures, {share} were wrongly called a deepfake{interval}.",
            Verdict.REAL: "Of {n} held-out deepfakes, {share} were wrongly called real{interval}.",
        }[Verdict(verdict)]
    if "value" not in measured or "n" not in measured:
        return unknown
    range_words = interval({**measured, "n": None})
    return sentence.format(
        n=count(measured["n"]), share=percent(measured["value"]), interval=range_words and f" ({range_words})"
    )


def values_at(metrics: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Go down into nested mappings; empty where something is missing, so that no page fails over a figure."""
    values: Any = metrics
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}
