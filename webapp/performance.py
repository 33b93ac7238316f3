"""The measured performance of the models: the metrics in visualizations/."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector import Verdict
from detector.media import MEDIA
from detector.reports import UNMEASURED
from detector.text import format_count, format_per_thousand, format_percent, translatable
from webapp.template_filters import format_interval

# By verdict: the keys of the rate in the metrics, and the files that were measured, in words.
UNSEEN_PICTURES = {
    Verdict.INCONCLUSIVE: (
        ("tiers", "stored", "inconclusive"),
        translatable("pictures of kinds and sources it had not seen"),
    ),
    Verdict.DEEPFAKE: (("tiers", "stored", "false_alarms"), translatable("real pictures from sources it had not seen")),
    Verdict.REAL: (("tiers", "stored", "called_real"), translatable("deepfakes of kinds it had not seen")),
}
KNOWN_PICTURES = {
    Verdict.INCONCLUSIVE: (("overall", "inconclusive"), translatable("pictures of the collections it was trained on")),
    Verdict.DEEPFAKE: (
        ("verdicts", "deepfake", "wrong"),
        translatable("real pictures of the collections it was trained on"),
    ),
    Verdict.REAL: (("verdicts", "real", "wrong"), translatable("deepfakes of the collections it was trained on")),
}
VOICES = {
    Verdict.INCONCLUSIVE: (
        ("folds", "generator", "stored", "inconclusive"),
        translatable("recordings of unseen speakers"),
    ),
    Verdict.DEEPFAKE: (
        ("folds", "generator", "stored", "false_alarms"),
        translatable("real recordings of unseen speakers"),
    ),
    Verdict.REAL: (("folds", "generator", "stored", "misses"), translatable("fakes by unseen generators")),
}
VIDEOS = {
    Verdict.INCONCLUSIVE: (("clips", "inconclusive"), translatable("videos in our test")),
    Verdict.DEEPFAKE: (("clips", "false_alarms"), translatable("real videos")),
    Verdict.REAL: (("clips", "called_real"), translatable("deepfake videos")),
}
RATES_BY_MEDIUM: Mapping[str, Mapping[Verdict, tuple[tuple[str, ...], str]]] = {
    "image": KNOWN_PICTURES,
    "video": VIDEOS,
    "audio": VOICES,
}
EXPERIMENTAL_WIDTH = 0.2  # of the interval of an error rate; above it the verdicts on videos are experimental
OUTCOME_PHRASES = {
    Verdict.INCONCLUSIVE: translatable("were inconclusive like this one"),
    Verdict.DEEPFAKE: translatable("were wrongly called a deepfake"),
    Verdict.REAL: translatable("were wrongly called real"),
}
UNSEEN_SENTENCES = {
    Verdict.INCONCLUSIVE: translatable("Of 1,000 {files}, {found} were inconclusive like this one. Measured on {n}."),
    Verdict.DEEPFAKE: translatable("Of 1,000 {files}, {found} were wrongly called a deepfake. Measured on {n}."),
    Verdict.REAL: translatable("Of 1,000 {files}, {found} were wrongly called real. Measured on {n}."),
}

log = logging.getLogger(__name__)


def read_metrics(folder: Path, media: str = "image") -> dict[str, Any] | None:
    """Return the metrics that were measured on a medium; None if the file is missing or damaged."""
    return read_json_file(folder / MEDIA[media].metrics_file)


def read_unseen_metrics(folder: Path, metrics: Mapping[str, Any] | None, media: str = "image") -> dict[str, Any] | None:
    """Return the metrics on kinds of pictures left out of training; None if there are none for this model.

    Args:
        folder: of the metrics files.
        metrics: from `read_metrics`; they name the model. A model that was trained on a person's own folders has
            nothing to do with an older file of metrics on kinds left out.
        media: a key of `MEDIA`.
    """
    name = MEDIA[media].unseen_metrics_file
    unseen = None if name is None else read_json_file(folder / name)
    if unseen is None or metrics is None:
        return unseen
    model_sha256 = unseen.get("model_sha256")
    is_of_model = (
        values_at(metrics, "training").get("calibrated_on") == "unseen"
        if model_sha256 is None  # measured before the model was calibrated on the same scores
        else is_measured_with(metrics, model_sha256)
    )
    return unseen if is_of_model else None


def read_json_file(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file; None if the file is missing or damaged."""
    try:
        metrics = _read_json(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    return metrics if isinstance(metrics, dict) else None


@lru_cache(maxsize=5)  # known and unseen pictures, their plots, videos, voices
def _read_json(path: Path, _modified_ns: int) -> Any:
    return json.loads(path.read_text())


def is_measured_with(metrics: Mapping[str, Any] | None, model_sha256: str) -> bool:
    """Return whether the metrics belong to this model."""
    return model_sha256 in values_at(metrics, "model").values()


def error_sentence(
    metrics: Mapping[str, Any] | None,
    verdict: str,
    model_sha256: str,
    *,
    media: str = "image",
    unseen: Mapping[str, Any] | None = None,
) -> str:
    """Return how often such a verdict is wrong, and on which files that was measured, or that it was not.

    Args:
        metrics: from `read_metrics`.
        verdict: of the file.
        model_sha256: of the model behind the verdict.
        media: "image", "video" or "audio".
        unseen: from `read_unseen_metrics`; None if no kinds were left out. Only pictures have such a file.
    """
    if not is_measured_with(metrics, model_sha256):
        return UNMEASURED
    sentence = _unseen_sentence(unseen, Verdict(verdict)) if MEDIA[media].unseen_metrics_file else None
    return sentence or _known_sentence(metrics, Verdict(verdict), media) or UNMEASURED


def experimental_sentence(metrics: Mapping[str, Any] | None, model_sha256: str) -> str:
    """Return that verdicts on videos are experimental, and on how many they were measured; "" once enough were.

    Args:
        metrics: of videos, from `read_metrics`.
        model_sha256: of the model behind the verdict.
    """
    clips = values_at(metrics, "clips") if is_measured_with(metrics, model_sha256) else {}
    if not clips.get("n"):
        return translatable("Verdicts on videos are experimental: they were not measured for this model (n = 0).")
    widths = [_interval_width(values_at(clips, rate)) for rate in ("false_alarms", "called_real")]
    if max(widths) <= EXPERIMENTAL_WIDTH:
        return ""
    real, fake = (format_count(clips.get(count) or 0) for count in ("n_real", "n_fake"))
    sentence = translatable(
        "Verdicts on videos are experimental: we measured only {real} real and {fake} deepfake videos (n = {n}). "
        "That is too few to know how often a verdict is wrong."
    ).format(real=real, fake=fake, n=format_count(clips["n"]))
    known = clips["n"] - (clips.get("n_unseen") or 0)
    if not known:
        return sentence
    origin = translatable("{known} of them come from collections it was trained on.")
    return f"{sentence} {origin.format(known=format_count(known))}"


def _interval_width(measured: Mapping[str, Any]) -> float:
    """Return the width of a rate's interval; 1, the widest, where it was not measured."""
    low, high = measured.get("low"), measured.get("high")
    return 1.0 if low is None or high is None else float(high) - float(low)


def _unseen_sentence(unseen: Mapping[str, Any] | None, verdict: Verdict) -> str | None:
    keys, measured_files = UNSEEN_PICTURES[verdict]
    measured = values_at(unseen, *keys)
    if not {"value", "low", "high", "n"} <= measured.keys():
        return None
    found = format_per_thousand(measured["value"], measured["low"], measured["high"])
    return UNSEEN_SENTENCES[verdict].format(files=measured_files, found=found, n=format_count(measured["n"]))


def _known_sentence(metrics: Mapping[str, Any] | None, verdict: Verdict, media: str) -> str | None:
    keys, measured_files = RATES_BY_MEDIUM[media][verdict]
    measured = values_at(metrics, *keys)
    if not {"value", "n"} <= measured.keys():
        return None
    range_words = format_interval({**measured, "n": None})
    sentence = (
        translatable("Of {n} {files}, {share} {outcome} ({interval}).")
        if range_words
        else translatable("Of {n} {files}, {share} {outcome}.")
    ).format(
        n=format_count(measured["n"]),
        files=measured_files,
        share=format_percent(measured["value"]),
        outcome=OUTCOME_PHRASES[verdict],
        interval=range_words,
    )
    limit = translatable("Other collections were not measured.")
    return f"{sentence} {limit}" if media == "image" else sentence


def values_at(metrics: Mapping[str, Any] | None, *keys: str) -> Mapping[str, Any]:
    """Return a nested mapping; an empty one if a key is missing, so that no page fails because of a figure."""
    values: Any = metrics
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}
