"""Coordinates of the drawings on the pages: plain functions from numbers to frozen dataclasses.

The templates place these values into SVG elements and compute nothing. Lengths along the width of a drawing that
adapts to the page are percentages of it (0 to 100); all other lengths are pixels, or units of the viewBox.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.results import HISTOGRAM_BIN_EDGES
from detector.text import format_probability
from webapp.template_filters import format_timestamp

Record = Mapping[str, Any]

SHORTEST_S = 0.001  # stands in for a duration of 0
LEAST_BAR_PX = 2
TIMELINE_PX = 104  # height of a video's timeline without its labels
TIMELINE_BAR_PX = 96
SEGMENTS_PX = 70  # the same for a recording's segments
SEGMENT_BAR_PX = 64
ROW_PX = 27  # height of a row of the robustness test
HISTOGRAM_PX = 46
HISTOGRAM_STEP_PX = 72  # from one histogram to the next
HISTOGRAM_BAR = 0.86  # width of a bar; a bin is 1 wide
AXIS_PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99)  # labelled under the histograms
PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 600, 520  # about the largest size of a picture on the page
ZONE_TITLES = {"real": "Leans real", "inconclusive": "Inconclusive", "deepfake": "Leans fake"}  # from left to right
BAND_WIDTH = 10  # percent of the scale; a score is not known more exactly than that
NEAR_EDGE = 0.15  # of a zone's width
VOTE_ORDER = ("deepfake", "inconclusive", "real")


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """A text on a rectangle.

    Attributes:
        plate: the rectangle.
        text: what it says.
        text_x, text_y: middle of the text's baseline.
        font_size: of the text.
        side: what stays in place when the label is enlarged: its "left" or "right" end, or "below" its upper edge.
    """

    plate: Box
    text: str
    text_x: float
    text_y: float
    font_size: float
    side: str


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


@dataclass(frozen=True)
class BoxedFace:
    """A face on its picture.

    Attributes:
        number: from 1, the most suspicious first.
        box: the part of the face box inside the picture, in its pixels.
        crop: the square under its heat map.
        radius: of the box's corners.
        label: its number; None for the only face.
        is_checked: the face is not excluded, so its score has a meaning.
    """

    number: int
    box: Box
    crop: Box
    radius: float
    label: Label | None
    is_checked: bool


@dataclass(frozen=True)
class Bar:
    """A bar over time.

    Attributes:
        x, width: in percent of the width.
        y, height: in pixels.
        time_s: where the player jumps to.
        title: time and probability.
        kind: the CSS class.
    """

    x: float
    width: float
    y: float
    height: float
    time_s: float
    title: str
    kind: str


@dataclass(frozen=True)
class TimeDrawing:
    """Bars over the time of a video or a recording.

    Attributes:
        height: of the area of the bars, in pixels.
        duration_s: length of the axis.
        end: the label at its end.
        label: the drawing in words.
        bars: in the order of time.
        threshold_ys: heights of the two thresholds; empty for none.
        cut_xs: where another shot begins.
    """

    height: int
    duration_s: float
    end: str
    label: str
    bars: tuple[Bar, ...]
    threshold_ys: tuple[float, ...]
    cut_xs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Vote:
    """The proportion of frames with one verdict, as a part of a bar in percent of its width."""

    verdict: str
    proportion: float
    x: float
    width: float


@dataclass(frozen=True)
class Curve:
    """A curve in a square of 100 x 100: its CSS class and its `points` attribute."""

    kind: str
    points: str


@dataclass(frozen=True)
class DeletionCurves:
    """The scores of a deletion check.

    Attributes:
        curves: what is behind first.
        end: the label at the end of the axis, such as "50% removed".
        label: the drawing in words.
    """

    curves: tuple[Curve, ...]
    end: str
    label: str


@dataclass(frozen=True)
class RobustnessRow:
    """The score of one degraded copy.

    Attributes:
        name: of the degradation, see `detector.evidence.DEGRADATION_LABELS`.
        verdict: the CSS class of its mark.
        probability: as text.
        x: of the mark, in percent of the width.
        y: middle of the row.
        dx, anchor: where the text stands beside the mark.
    """

    name: str
    verdict: str
    probability: str
    x: float
    y: float
    dx: float
    anchor: str


@dataclass(frozen=True)
class RobustnessDrawing:
    """The scores of all degraded copies, a row each, over the zones of probabilities."""

    height: int
    zones: Zones
    rows: tuple[RobustnessRow, ...]


@dataclass(frozen=True)
class HistogramBar:
    """A bar of a histogram; `counted` is the (x, width) of its part in full colour, None for no part."""

    x: int
    y: float
    height: float
    counted: tuple[float, float] | None


@dataclass(frozen=True)
class Histogram:
    """The scores of one class of held-out files."""

    kind: str
    n: int
    top: int
    bars: tuple[HistogramBar, ...]


@dataclass(frozen=True)
class Histograms:
    """Two histograms above one axis.

    Attributes:
        bins: number of bins, which is the width of the viewBox.
        marker: where the file's score lies, in percent of the width.
        label_x, label_anchor: where the histograms' names stand.
        histograms: from top to bottom.
        ticks: labels of the axis.
    """

    bins: int
    marker: float
    label_x: str
    label_anchor: str
    histograms: tuple[Histogram, ...]
    ticks: tuple[Tick, ...]


def percent(fraction: float) -> float:
    """Return a fraction in [0, 1] as percent, for an attribute."""
    return round(100 * fraction, 2)


def zones(threshold_real: float, threshold_fake: float, *, anchors: tuple[str, str] = ("end", "start")) -> Zones:
    """Return the zones of a scale from 0 to 100%.

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
        edge = "near the line to its left"
    elif within > 1 - NEAR_EDGE and zone != "deepfake":
        edge = "near the line to its right"
    return Band(round(x, 2), BAND_WIDTH, zone, ZONE_TITLES[zone], edge)


def boxed_faces(record: Record) -> Iterator[BoxedFace]:
    """Yield the faces of a picture's record, the most suspicious last, so that it is drawn above the others.

    Boxes end at the edge of the picture. Of several faces each has its number, beside all boxes where there is room.
    """
    width, height, faces = record["width_px"], record["height_px"], record["faces"]
    unit = max(width / PICTURE_WIDTH_PX, height / PICTURE_HEIGHT_PX)  # a pixel of the page in pixels of the picture
    boxes = [_clip(Box(*face["box"]), width, height) for face in faces]
    labels: list[Label] = []
    if len(faces) > 1:
        for number, box in enumerate(boxes, 1):
            taken = [*boxes, *(label.plate for label in labels)]
            labels.append(_number_label(str(number), box, taken, unit, width, height))
    for index, face in reversed(list(enumerate(faces))):
        yield BoxedFace(
            number=index + 1,
            box=boxes[index],
            crop=Box(*face["crop_box"]),
            radius=6 * unit,
            label=labels[index] if labels else None,
            is_checked=not face.get("reasons"),  # faces of the first versions have none
        )


def _clip(box: Box, width: float, height: float) -> Box:
    """Return the part of a box inside the picture."""
    x, y = max(box.x, 0), max(box.y, 0)
    return Box(x, y, max(min(box.x + box.width, width) - x, 0), max(min(box.y + box.height, height) - y, 0))


def _number_label(text: str, box: Box, taken: Sequence[Box], unit: float, width: float, height: float) -> Label:
    """Return the number of a face above, below or beside its box, inside the picture and off all that is taken.

    Where all these places are taken, it covers the upper left corner of its own box.
    """
    plate_width, plate_height, gap = (len(text) * 8.4 + 16) * unit, 26 * unit, 5 * unit
    above, below = box.y - plate_height - gap, box.y + box.height + gap
    right = box.x + box.width - plate_width
    places = (
        *((box.x, above, "left"), (right, above, "right")),
        *((box.x, below, "below"), (right, below, "below")),
        *((box.x - plate_width - gap, box.y, "right"), (box.x + box.width + gap, box.y, "left")),
    )
    corner = (min(box.x, width - plate_width), min(box.y, height - plate_height), "below")
    x, y, side = next(
        (
            (x, y, side)
            for x, y, side in places
            if 0 <= x <= width - plate_width
            and 0 <= y <= height - plate_height
            and not any(_overlap(Box(x, y, plate_width, plate_height), other) for other in taken)
        ),
        corner,
    )
    return Label(
        Box(x, y, plate_width, plate_height),
        text,
        text_x=x + plate_width / 2,
        text_y=y + plate_height * 0.69,
        font_size=15 * unit,
        side=side,
    )


def _overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def timeline(track: Record, record: Record, thresholds: Sequence[float]) -> TimeDrawing:
    """Return the scores of a face over the time of its video.

    Args:
        track: of a video's record.
        record: the video's record.
        thresholds: probabilities with a line.
    """
    duration = max(record["duration_s"], SHORTEST_S)
    width = max(100 / max(record["frames_seen"], 1), 0.35)
    bars, cuts = [], record["shot_changes_s"]
    for frame in track["frames"]:
        height = max(TIMELINE_BAR_PX * frame["probability"], LEAST_BAR_PX)
        time_s = frame["timestamp_s"]
        bars.append(
            Bar(
                x=round(min(100 * time_s / duration, 100 - width), 2),
                width=round(width * 0.82, 2),
                y=round(TIMELINE_PX - height, 1),
                height=round(height, 1),
                time_s=time_s,
                title=f"{format_timestamp(time_s)}: {format_probability(frame['probability'])}",
                kind=frame["verdict"],
            )
        )
    highest = format_probability(max(frame["probability"] for frame in track["frames"]))
    end = format_timestamp(record["duration_s"])
    label = f"Timeline from 0:00 to {end}: {len(bars)} frames of this face, the highest score {highest}."
    if cuts:
        label += f" Another shot begins at {', '.join(map(format_timestamp, cuts))}."
    return TimeDrawing(
        TIMELINE_PX,
        duration,
        end,
        label,
        tuple(bars),
        threshold_ys=tuple(round(TIMELINE_PX - TIMELINE_BAR_PX * threshold, 1) for threshold in thresholds),
        cut_xs=tuple(percent(cut / duration) for cut in cuts),
    )


def votes(track: Record) -> tuple[Vote, ...]:
    """Return the proportions of a face's frames for the three verdicts, as one bar."""
    parts, before = [], 0.0
    for verdict in VOTE_ORDER:
        proportion = track["votes"].get(verdict, 0)
        parts.append(Vote(verdict, proportion, percent(before), percent(proportion)))
        before += proportion
    return tuple(parts)


def segments(record: Record, thresholds: Sequence[float]) -> TimeDrawing:
    """Return the scores of a recording's segments over its time.

    Args:
        record: of a voice.
        thresholds: probabilities with a line.
    """
    duration, found = max(record["duration_s"], SHORTEST_S), record["segments"]
    overlap = 0 if len(found) == 1 else 0.5  # neighbours overlap by half, so each is drawn over its middle
    bars = []
    for segment in found:
        start, length = segment["start_s"], segment["end_s"] - segment["start_s"]
        height = max(SEGMENT_BAR_PX * segment["probability"], LEAST_BAR_PX)
        times = f"{format_tenths(start)} to {format_tenths(segment['end_s'])}"
        bars.append(
            Bar(
                x=percent((start + length * overlap / 2) / duration),
                width=percent(length * (1 - overlap) / duration),
                y=round(SEGMENTS_PX - height, 1),
                height=round(height, 1),
                time_s=start,
                title=f"{times}: {format_probability(segment['probability'])}",
                kind="window",
            )
        )
    highest = format_probability(max(segment["probability"] for segment in found))
    end = format_timestamp(record["duration_s"])
    label = f"Scores of {len(bars)} parts from 0:00 to {end}, the highest {highest}."
    ys = tuple(round(SEGMENTS_PX - SEGMENT_BAR_PX * threshold, 1) for threshold in thresholds)
    return TimeDrawing(SEGMENTS_PX, duration, end, label, tuple(bars), ys)


def format_tenths(seconds: float) -> str:
    """Return a time to a tenth of a second, such as "1:07.5": segments begin half a second apart."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


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
    label = (
        f"The score with {removed} of the face blurred: logit {marked[-1]:.1f} with the marked areas blurred, "
        f"{elsewhere[-1]:.1f} with other areas blurred, {marked[0]:.1f} with nothing blurred."
    )
    curves = (Curve("elsewhere", points(elsewhere)), Curve("marked", points(marked)))
    return DeletionCurves(curves, f"{removed} blurred", label)


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
                dx=13 if x < 60 else -13,
                anchor="start" if x < 60 else "end",
            )
        )
    return RobustnessDrawing(
        height=ROW_PX * len(rows),
        zones=zones(threshold_real, threshold_fake, anchors=("middle", "middle")),
        rows=tuple(rows),
    )


def histogram_position(probability: float) -> float:
    """Return where a probability lies among the bins of HISTOGRAM_BIN_EDGES, from 0 to their number."""
    bin_index = min(bisect_right(HISTOGRAM_BIN_EDGES, probability), len(HISTOGRAM_BIN_EDGES) - 1) - 1
    low, high = HISTOGRAM_BIN_EDGES[bin_index : bin_index + 2]
    return bin_index + (probability - low) / (high - low)


def histograms(rates: Sequence[Record], probability: float, counted_kinds: Sequence[str]) -> Histograms:
    """Return the held-out scores of both classes, with the position of a file's score among them.

    Args:
        rates: two error rates of a record.
        probability: of the file.
        counted_kinds: the classes whose bars as wrong as this file are in full colour.
    """
    bins = len(rates[0]["histogram"])
    tallest = max(max(rate["histogram"]) / rate["n"] for rate in rates)
    position = histogram_position(probability)
    marker = 100 * position / bins
    is_right = marker > 50
    found = []
    for number, rate in enumerate(rates):
        is_counted = rate["kind"] in counted_kinds
        bars = tuple(
            _histogram_bar(index, count / rate["n"] / tallest, _counted_part(rate["kind"], index, position, is_counted))
            for index, count in enumerate(rate["histogram"])
            if count
        )
        found.append(Histogram(rate["kind"], rate["n"], HISTOGRAM_STEP_PX * number, bars))
    ticks = tuple(
        Tick(100 * histogram_position(share) / bins, f"{100 * share:g}%", "middle") for share in AXIS_PROBABILITIES
    )
    return Histograms(
        bins,
        round(marker, 2),
        label_x="0" if is_right else "100%",
        label_anchor="start" if is_right else "end",
        histograms=tuple(found),
        ticks=ticks,
    )


def _histogram_bar(index: int, height: float, counted: tuple[float, float] | None) -> HistogramBar:
    height_px = round(HISTOGRAM_PX * height, 2)
    return HistogramBar(index, round(HISTOGRAM_PX - height_px, 2), height_px, counted)


def _counted_part(kind: str, index: int, position: float, is_counted: bool) -> tuple[float, float] | None:
    """Return the part of a bar that is at least as wrong as the position: above it for reals, below it for fakes."""
    start = max(index, position) if kind == "real" else index
    end = index + HISTOGRAM_BAR if kind == "real" else min(index + HISTOGRAM_BAR, position)
    return (start, end - start) if is_counted and end > start else None
