"""How often the verdicts in a list of results are wrong, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detector import Verdict
from detector.media import MEDIA
from webapp.outcomes import OUTCOME_NAMES, Outcome
from webapp.performance import error_sentence, experimental_sentence, read_metrics, read_unseen_metrics


def wrong_sentences(verdicts: Iterable[tuple[str, str, str]], folder: Path) -> list[tuple[str, str, str]]:
    """Return how often each kind of verdict is wrong, on kinds and sources that the model had not seen.

    Args:
        verdicts: medium, verdict and SHA-256 of the model of each file that could be checked.
        folder: of the metrics files.

    Returns:
        Medium, name of the verdict and sentence, once for each medium and verdict that occurs.
    """
    occurring, found = set(verdicts), []
    for media in MEDIA:
        for outcome in (Outcome.DEEPFAKE, Outcome.INCONCLUSIVE, Outcome.REAL):
            models = sorted({model for medium, verdict, model in occurring if (medium, verdict) == (media, outcome)})
            for sentence in dict.fromkeys(_sentence(media, outcome, model, folder) for model in models):
                found.append((media, OUTCOME_NAMES[outcome], sentence))
    return found


def _sentence(media: str, verdict: str, model_sha256: str, folder: Path) -> str:
    metrics = read_metrics(folder, media)
    unseen = read_unseen_metrics(folder, metrics, media)
    experimental = experimental_sentence(metrics, model_sha256) if media == "video" else ""
    return experimental or error_sentence(metrics, Verdict(verdict), model_sha256, media=media, unseen=unseen)
