"""What pages and programs say about a verdict, from one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app

from detector import Verdict
from detector.reports import advice, headline, reason_sentence, verdict_error_sentence, was_checked
from detector.results import ERROR_CLASS_BY_VERDICT
from webapp.models import Analysis
from webapp.performance import error_sentence, experimental_sentence, read_metrics, read_unseen_metrics


@dataclass(frozen=True)
class ResultWords:
    """The English sentences about a verdict.

    Attributes:
        headline: the verdict in words.
        reasons: why it is inconclusive, a sentence each.
        is_checked: whether the numbers mean anything; not for a file without a face or a voice.
        verdict_error: how often such a verdict is wrong, in a sentence, or that it is experimental.
        how_often_wrong: the same with the number of files it was measured on.
        rates, verdict_rates: the error rates of the record, and those of them that belong to the verdict.
        advice: what to do now.
    """

    headline: str
    reasons: tuple[str, ...]
    is_checked: bool
    verdict_error: str
    how_often_wrong: str
    rates: Sequence[Mapping[str, Any]]
    verdict_rates: Sequence[Mapping[str, Any]]
    advice: Sequence[str]


def words_of(analysis: Analysis) -> ResultWords:
    """Return the sentences about the verdict of an analysis that is done."""
    record, verdict, media = analysis.record, Verdict(analysis.verdict or ""), analysis.media
    reasons, model_sha256 = record["reasons"], record["model_sha256"]
    folder = current_app.config["VISUALIZATIONS"]
    metrics = read_metrics(folder, media)
    unseen = read_unseen_metrics(folder, metrics, media)
    rates = record.get("error_rates", [])  # records of the first versions have none
    verdict_rates = [rate for rate in rates if rate["kind"] in ERROR_CLASS_BY_VERDICT[verdict]]
    how_often_wrong = error_sentence(metrics, verdict, model_sha256, media=media, unseen=unseen)
    experimental = experimental_sentence(metrics, model_sha256) if media == "video" else ""
    rate_sentence = verdict_error_sentence(verdict_rates, media) if verdict_rates else how_often_wrong
    return ResultWords(
        headline=headline(verdict, media, reasons=reasons),
        reasons=tuple(map(reason_sentence, reasons)),
        is_checked=was_checked(reasons),
        verdict_error=experimental or rate_sentence,
        how_often_wrong=how_often_wrong,
        rates=rates,
        verdict_rates=verdict_rates,
        advice=advice(verdict, media, reasons),
    )
