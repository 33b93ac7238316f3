"""The pictures of a report, as JPEG files: numbered faces with their heat maps, and scores over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.media import encode_jpeg
from detector.models.calibration import Calibration
from detector.models.heatmaps import colour_heatmap
from detector.results import Verdict
from detector.text import format_probability
from detector.verdicts import classify

PICTURE_SIDE_PX = 1000  # longer side of the pictures in a report
REPORT_QUALITY = 85
BOX_COLOUR = (52, 80, 196)
VERDICT_COLOURS = {Verdict.REAL: (13, 122, 82), Verdict.DEEPFAKE: (187, 42, 53), Verdict.INCONCLUSIVE: (138, 90, 0)}
LABEL_COLOUR, AXIS_COLOUR = (86, 96, 114), (150, 158, 172)
CHART_PX = (1000, 260)
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 70, 16, 14, 40  # around the bars of a chart
DASH_PX = 8
TICK_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
MAX_TICKS = 8
STRIP_SIDE_PX = 192


@dataclass(frozen=True)
class Bar:
    """A score and the time that it stands for, in seconds."""

    start_s: float
    end_s: float
    probability: float


def draw_faces(
    image: np.ndarray,
    boxes: list[tuple[str, tuple[int, int, int, int]]],
    heat: list[tuple[np.ndarray, tuple[int, int, int, int]]],
) -> bytes:
    """Return a picture as JPEG, small enough for a report, with heat maps and numbered face boxes.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: names of faces with their boxes (x, y, w, h) in pixels of the picture.
        heat: heat maps (h, w) float32 in [0, 1] with their squares in pixels of the picture.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.LANCZOS)
    scale = picture.width / image.shape[1]
    for heatmap, (left, top, side, _) in heat:
        colours = Image.fromarray(colour_heatmap(heatmap, max(1, round(side * scale))))
        picture.paste(colours.convert("RGB"), (round(left * scale), round(top * scale)), colours.getchannel("A"))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(18)
    for name, (x, y, w, h) in boxes:
        corners = [round(value * scale) for value in (x, y, x + w, y + h)]
        pen.rectangle(corners, outline=BOX_COLOUR, width=3)
        pen.text(
            (corners[0] + 6, corners[1] + 4), name, fill="white", font=font, stroke_width=2, stroke_fill=BOX_COLOUR
        )
    return encode_jpeg(np.asarray(picture), quality=REPORT_QUALITY)


def split_overlaps(times_s: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return times without their overlaps: neighbours meet in the middle of what they share.

    Args:
        times_s: start and end of each, at least one, in the order of time; none lies within another.
    """
    middles = [(one[1] + other[0]) / 2 for one, other in pairwise(times_s)]
    earliest, latest = [times_s[0][0], *middles], [*middles, times_s[-1][1]]
    return [
        (max(start, first), min(end, last)) for (start, end), first, last in zip(times_s, earliest, latest, strict=True)
    ]


def draw_scores(bars: Sequence[Bar], duration_s: float, calibration: Calibration) -> bytes:
    """Return scores over time as a JPEG chart: a bar for each, in the colour of its verdict, and both thresholds.

    Args:
        bars: the scores.
        duration_s: of the whole file.
        calibration: its two thresholds.
    """
    picture = Image.new("RGB", CHART_PX, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    right, bottom = CHART_PX[0] - RIGHT_PX, CHART_PX[1] - BOTTOM_PX
    length_s = max([duration_s, *(bar.end_s for bar in bars)]) or 1.0

    def x_of(seconds: float) -> float:
        return LEFT_PX + (right - LEFT_PX) * seconds / length_s

    def y_of(probability: float) -> float:
        return bottom - (bottom - TOP_PX) * probability

    for bar in bars:
        left = x_of(bar.start_s)
        end = max(left + 2, x_of(bar.end_s) - 1)
        colour = VERDICT_COLOURS[classify(bar.probability, calibration)]
        pen.rectangle((left, min(y_of(bar.probability), bottom - 2), min(end, right), bottom), fill=colour)
    for threshold in (calibration.threshold_real, calibration.threshold_fake):
        for dash in range(LEFT_PX, right, 2 * DASH_PX):
            pen.line((dash, y_of(threshold), dash + DASH_PX, y_of(threshold)), fill=LABEL_COLOUR, width=2)
        pen.text(
            (LEFT_PX - 6, y_of(threshold)), format_probability(threshold), fill=LABEL_COLOUR, font=font, anchor="rm"
        )
    pen.line((LEFT_PX, bottom, right, bottom), fill=AXIS_COLOUR, width=2)
    step_s = next((step for step in TICK_STEPS_S if length_s / step <= MAX_TICKS), TICK_STEPS_S[-1])
    for tick in np.arange(0, length_s + step_s / 1000, step_s):
        pen.line((x_of(tick), bottom, x_of(tick), bottom + 6), fill=AXIS_COLOUR, width=2)
        anchor = "mt" if x_of(tick) < right - 20 else "rt"
        pen.text((x_of(tick), bottom + 10), f"{tick:g} s", fill=LABEL_COLOUR, font=font, anchor=anchor)
    return encode_jpeg(np.asarray(picture), quality=REPORT_QUALITY)


def draw_strip(crops: Sequence[np.ndarray]) -> bytes:
    """Return crops, each (S, S, 3) uint8 RGB, side by side as JPEG."""
    side = STRIP_SIDE_PX
    strip = Image.new("RGB", (side * len(crops), side), "white")
    for number, crop in enumerate(crops):
        strip.paste(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS), (side * number, 0))
    return encode_jpeg(np.asarray(strip), quality=REPORT_QUALITY)
