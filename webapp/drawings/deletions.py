"""The fall of a score when regions of a face are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.text import translatable
from webapp.drawings.charts import Line

Record = Mapping[str, Any]


@dataclass(frozen=True)
class DeletionCurves:
    """The scores of a deletion check.

    Attributes:
        curves: what is behind first.
        end: the label at the end of the axis, such as "50% blurred".
        label: the drawing in words.
    """

    curves: tuple[Line, ...]
    end: str
    label: str


def deletion_curves(check: Record) -> DeletionCurves:
    """Return the scores of a deletion check: marked regions removed, and as much removed elsewhere."""
    marked, elsewhere, shares = check["logits"], check["random_logits"], check["shares"]
    high, low = max(*marked, *elsewhere), min(*marked, *elsewhere)
    span, most = max(high - low, 0.001), shares[-1]

    def points(logits: Sequence[float]) -> str:
        places = zip(shares, logits, strict=True)
        return " ".join(
            f"{round(100 * share / most, 1)},{round(100 * (high - logit) / span, 1)}" for share, logit in places
        )

    removed = f"{100 * most:.0f}%"
    label = translatable(
        "The score with {removed} of the face blurred: logit {marked} with the marked areas blurred, "
        "{elsewhere} with other areas blurred, {start} with nothing blurred."
    ).format(removed=removed, marked=f"{marked[-1]:.1f}", elsewhere=f"{elsewhere[-1]:.1f}", start=f"{marked[0]:.1f}")
    curves = (Line("elsewhere", points(elsewhere)), Line("marked", points(marked)))
    return DeletionCurves(curves, translatable("{removed} blurred").format(removed=removed), label)
