"""Scales of probability: the zones between the thresholds, and where a score lies among them."""

from __future__ import annotations

from dataclasses import dataclass

from detector.text import format_probability, translatable

ZONE_TITLES = {
    "real": translatable("Leans real"),
    "inconclusive": translatable("Inconclusive"),
    "deepfake": translatable("Leans fake"),
}  # from left to right
BAND_WIDTH = 10  # percent of the scale; a score is not known more exactly than that
NEAR_EDGE = 0.15  # of a zone's width


@dataclass(frozen=True)
class Tick:
    """A text at a position along the width, with its SVG text anchor."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Zones:
    """The three zones of probabilities, in percent of the width.

    Attributes:
        real, fake: where the two thresholds lie.
        gap: width of the inconclusive zone between them.
        rest: width of the zone of deepfakes.
        ticks: a label for each threshold.
    """

    real: float
    fake: float
    gap: float
    rest: float
    ticks: tuple[Tick, Tick]


@dataclass(frozen=True)
class Band:
    """Where a score lies on a scale of three zones of equal width, as a band inside its zone.

    Attributes:
        x, width: of the band, in percent of the width.
        zone: the verdict whose zone it is.
        title: the zone's name.
        edge: which line it is near, in words; "" in the middle of its zone.
    """

    x: float
    width: float
    zone: str
    title: str
    edge: str


def percent(fraction: float) -> float:
    """Return a fraction in [0, 1] as percent, for an attribute."""
    return round(100 * fraction, 2)


def zones(threshold_real: float, threshold_fake: float, *, anchors: tuple[str, str] = ("end", "start")) -> Zones:
    """Return the zones of a scale from 0 to 100 %.

    Args:
        threshold_real, threshold_fake: the two thresholds, in [0, 1].
        anchors: text anchors of their labels; near the edges they change so that the labels stay inside.
    """
    real, fake = percent(threshold_real), percent(threshold_fake)
    ticks = (
        Tick(real, format_probability(threshold_real), "start" if real < 8 else anchors[0]),
        Tick(fake, format_probability(threshold_fake), "end" if fake > 92 else anchors[1]),
    )
    return Zones(real, fake, max(fake - real, 0), 100 - fake, ticks)


def zone_of(probability: float, threshold_real: float, threshold_fake: float) -> str:
    """Return the zone of a probability, named by its verdict; a value on a threshold belongs to the outer zone."""
    if probability >= threshold_fake:
        return "deepfake"
    return "real" if probability <= threshold_real else "inconclusive"


def band(probability: float, threshold_real: float, threshold_fake: float) -> Band:
    """Return where a probability lies on a scale of three zones of equal width, all three values in [0, 1]."""
    zone = zone_of(probability, threshold_real, threshold_fake)
    low, high = {
        "real": (0.0, threshold_real),
        "inconclusive": (threshold_real, threshold_fake),
        "deepfake": (threshold_fake, 1.0),
    }[zone]
    within = (probability - low) / (high - low) if high > low else 0.5
    number, zone_width = list(ZONE_TITLES).index(zone), 100 / len(ZONE_TITLES)
    start, end = number * zone_width, (number + 1) * zone_width
    x = min(max(start + within * zone_width - BAND_WIDTH / 2, start), end - BAND_WIDTH)
    edge = ""
    if within < NEAR_EDGE and zone != "real":
        edge = translatable("near the line to its left")
    elif within > 1 - NEAR_EDGE and zone != "deepfake":
        edge = translatable("near the line to its right")
    return Band(round(x, 2), BAND_WIDTH, zone, ZONE_TITLES[zone], edge)
