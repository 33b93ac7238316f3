"""Print the metrics of the voice network as the tables that docs/figures.md and the model card quote."""

from __future__ import annotations

from typing import Any

from training.voice_features import STORED_VOICE
from training.voice_manifest import GENERATOR
from training.voice_scoring import DEGRADED, MIN_FAKES

AUC_COLUMNS = ("auc", "auc_pages", "auc_kinds", "auc_within_page")


def print_voice_tables(metrics: dict[str, Any]) -> None:
    """Print the metrics that `evaluate_voices` returns."""
    stored = metrics["folds"][GENERATOR][STORED_VOICE]
    print(
        f"model {metrics['model']['sha256_h5'][:12]}; {stored['n_real']} real and {stored['n_fake']} fake recordings, "
        f"{stored['n_speakers']} speakers, {stored['n_generators']} generators with {MIN_FAKES} fakes or more"
    )
    _print_fold_table(metrics["folds"])
    _print_unit_tables(metrics["folds"])
    if metrics["val"]:
        _print_val_table(metrics["val"])


def _print_fold_table(folds: dict[str, Any]) -> None:
    rates = {
        "false_alarms": "reals called deepfake, %",
        "fakes_found": "fakes called deepfake, %",
        "misses": "fakes called real, %",
        "inconclusive": "inconclusive, %",
    }
    _print_header(
        "left out",
        "degradation",
        "mean AUC",
        "over pages",
        "over kinds",
        "within the page",
        *rates.values(),
        "ECE (perfect stays under)",
    )
    for held, degradations in folds.items():
        for name, measured in degradations.items():
            percentages = (_format_interval_percent(measured[key]) for key in rates)
            ece = f"{_format_interval(measured['ece'])} ({measured['ece_perfect']:.3f})"
            areas = (_format_interval(measured[key]) for key in AUC_COLUMNS)
            _print_row(held, name, *areas, *percentages, ece)


def _print_unit_tables(folds: dict[str, Any]) -> None:
    """Print a table of generators and families, one of pages and one of kinds."""
    of_generators = folds[GENERATOR]
    _print_unit_table("left out", "generators", list(folds.values()))
    _print_unit_table("page", "pages", [of_generators])
    _print_unit_table("kind", "kinds", [of_generators])


def _print_unit_table(title: str, key: str, folds: list[dict[str, Any]]) -> None:
    _print_header(title, "fakes", "speakers", "AUC stored", "AUC degraded")
    for degradations in folds:
        units = (degradations[name][key] for name in (STORED_VOICE, DEGRADED))
        for stored, degraded in zip(*units, strict=True):
            areas = (_format_interval(measured["auc"]) for measured in (stored, degraded))
            _print_row(stored["name"], stored["n"], stored["n_speakers"], *areas)


def _print_val_table(val: dict[str, Any]) -> None:
    _print_header("val, degradation", "n", "speakers", "reals called deepfake, %", "inconclusive, %")
    for name, measured in val.items():
        percentages = (_format_interval_percent(measured[key]) for key in ("false_alarms", "inconclusive"))
        _print_row(name, measured["false_alarms"]["n"], measured["n_speakers"], *percentages)


def _print_header(*cells: str) -> None:
    _print_row(*cells)
    _print_row(*["---"] * len(cells))


def _print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def _format_interval(estimate: dict[str, Any] | None, *, scale: float = 1, digits: int = 3) -> str:
    if estimate is None:
        return "-"
    value, low, high = (estimate[name] * scale for name in ("value", "low", "high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _format_interval_percent(estimate: dict[str, Any]) -> str:
    return _format_interval(estimate, scale=100, digits=1)
