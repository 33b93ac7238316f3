"""The scores of degraded copies of one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.text import format_probability
from webapp.drawings.scales import Zones, percent, zones

Record = Mapping[str, Any]

ROW_PX = 27  # height of a row of the robustness test


@dataclass(frozen=True)
class RobustnessRow:
    """The score of one degraded copy.

    Attributes:
        name: of the degradation, see `detector.evidence.DEGRADATION_LABELS`.
        verdict: the CSS class of its mark.
        probability: as text.
        x: of the mark, in percent of the width.
        y: middle of the row.
    """

    name: str
    verdict: str
    probability: str
    x: float
    y: float


@dataclass(frozen=True)
class RobustnessDrawing:
    """The scores of all degraded copies, a row each, over the zones of probabilities."""

    height: int
    zones: Zones
    rows: tuple[RobustnessRow, ...]


def robustness(result: Record, threshold_real: float, threshold_fake: float) -> RobustnessDrawing:
    """Return the scores of degraded copies of a picture, from the "robustness" of its record."""
    rows = []
    for number, score in enumerate(result["scores"]):
        x = percent(score["probability"])
        rows.append(
            RobustnessRow(
                name=score["name"],
                verdict=score["verdict"],
                probability=format_probability(score["probability"]),
                x=x,
                y=ROW_PX * (number + 0.5),
            )
        )
    return RobustnessDrawing(
        height=ROW_PX * len(rows),
        zones=zones(threshold_real, threshold_fake, anchors=("middle", "middle")),
        rows=tuple(rows),
    )
