"""Scores over the time of a video or a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.reports import split_overlaps
from detector.text import format_probability, translatable
from webapp.drawings.scales import Tick, percent
from webapp.template_filters import format_timestamp

Record = Mapping[str, Any]

SHORTEST_S = 0.001  # stands in for a duration of 0
LEAST_BAR_PX = 2
MOST_BARS = 240  # of a timeline, which is 240 pixels wide on a phone
TIMELINE_PX = 104  # height of a video's timeline without its labels
TIMELINE_BAR_PX = 96
SEGMENTS_PX = 70  # the same for a recording's segments
SEGMENT_BAR_PX = 64
SHARES = (0, 0.5, 1)  # labelled left of the bars
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
MOST_TIMES = 4  # labels under a drawing, which is 240 pixels wide on a phone
HIGHEST_HZ = 8_000  # of a displayed spectrogram, in mel
SHOWN_HZ = (0, 1_000, 2_000, 4_000, 8_000)
VOTE_ORDER = ("deepfake", "inconclusive", "real")


@dataclass(frozen=True)
class Moment:
    """A score over time.

    Attributes:
        time_s: where the player jumps to.
        title: time and probability.
    """

    time_s: float
    title: str


@dataclass(frozen=True)
class Bar(Moment):
    """A bar for a score over time.

    Attributes:
        x, width: in percent of the width.
        y, height: in pixels.
        kind: the CSS class.
    """

    x: float
    width: float
    y: float
    height: float
    kind: str


@dataclass(frozen=True)
class TimeDrawing:
    """Bars over the time of a video or a recording.

    Attributes:
        height: of the area of the bars, in pixels.
        duration_s: length of the axis.
        label: the drawing in words.
        bars: in the order of time; of many scores the highest ones.
        moments: all scores, in the order of time.
        time_ticks: labels of the axis.
        share_ys: heights of the labels of 0, 50 and 100 percent.
        threshold_ys: heights of the two thresholds; empty for none.
        cut_xs: where another shot begins.
    """

    height: int
    duration_s: float
    label: str
    bars: tuple[Bar, ...]
    moments: tuple[Moment, ...]
    time_ticks: tuple[Tick, ...]
    share_ys: tuple[tuple[str, float], ...]
    threshold_ys: tuple[float, ...]
    cut_xs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Vote:
    """The proportion of frames with one verdict, as a part of a bar in percent of its width."""

    verdict: str
    proportion: float
    x: float
    width: float


def timeline(track: Record, record: Record, thresholds: Sequence[float]) -> TimeDrawing:
    """Return the scores of a face over the time of its video; of more than MOST_BARS frames the highest ones.

    Args:
        track: of a video's record.
        record: the video's record.
        thresholds: probabilities with a line.
    """
    duration = max(record["duration_s"], SHORTEST_S)
    frames, frames_seen = track["frames"], max(record["frames_seen"], 1)
    room = 100 / min(frames_seen, MOST_BARS)
    bars: list[Bar] = []
    cuts, limit = record["shot_changes_s"], 100.0
    for frame in reversed(_highest_frames(frames, duration) if frames_seen > MOST_BARS else frames):
        time_s = frame["timestamp_s"]
        limit = min(100 * time_s / duration, limit - room)  # no bar covers the next
        height = max(TIMELINE_BAR_PX * frame["probability"], LEAST_BAR_PX)
        bars.append(
            Bar(
                x=round(max(limit, 0.0), 2),
                width=round(room * 0.82, 2),
                y=round(TIMELINE_PX - height, 1),
                height=round(height, 1),
                time_s=time_s,
                title=_frame_title(frame),
                kind=frame["verdict"],
            )
        )
    highest = format_probability(max(frame["probability"] for frame in frames))
    end = format_timestamp(record["duration_s"])
    label = translatable(
        "Timeline from 0:00 to {end}: {count} frames of this face, the highest score {highest}."
    ).format(end=end, count=len(frames), highest=highest)
    if cuts:
        shots = translatable("Another shot begins at {times}.").format(times=", ".join(map(format_timestamp, cuts)))
        label = f"{label} {shots}"
    return TimeDrawing(
        TIMELINE_PX,
        duration,
        label,
        tuple(reversed(bars)),
        tuple(Moment(frame["timestamp_s"], _frame_title(frame)) for frame in frames),
        time_ticks(duration),
        _share_ys(TIMELINE_PX, TIMELINE_BAR_PX),
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
    times_s = split_overlaps([(segment["start_s"], segment["end_s"]) for segment in found])
    bars = []
    for segment, (left_s, right_s) in zip(found, times_s, strict=True):
        height = max(SEGMENT_BAR_PX * segment["probability"], LEAST_BAR_PX)
        times = f"{format_tenths(segment['start_s'])} to {format_tenths(segment['end_s'])}"
        bars.append(
            Bar(
                x=percent(left_s / duration),
                width=percent((right_s - left_s) / duration),
                y=round(SEGMENTS_PX - height, 1),
                height=round(height, 1),
                time_s=segment["start_s"],
                title=f"{times}: {format_probability(segment['probability'])}",
                kind="window",
            )
        )
    highest = format_probability(max(segment["probability"] for segment in found))
    end = format_timestamp(record["duration_s"])
    label = translatable("Scores of {count} parts from 0:00 to {end}, the highest {highest}.").format(
        count=len(bars), end=end, highest=highest
    )
    ys = tuple(round(SEGMENTS_PX - SEGMENT_BAR_PX * threshold, 1) for threshold in thresholds)
    return TimeDrawing(
        SEGMENTS_PX,
        duration,
        label,
        tuple(bars),
        tuple(bars),
        time_ticks(duration),
        _share_ys(SEGMENTS_PX, SEGMENT_BAR_PX),
        threshold_ys=ys,
    )


def time_ticks(duration_s: float) -> tuple[Tick, ...]:
    """Return labels of round times from 0:00 to the last one before the end, at most MOST_TIMES steps."""
    step = next((step for step in TIME_STEPS_S if duration_s / step <= MOST_TIMES), math.ceil(duration_s / MOST_TIMES))
    ticks = []
    for time_s in range(0, math.floor(duration_s) + 1, step):
        x = percent(time_s / duration_s)
        ticks.append(Tick(x, format_timestamp(time_s), "start" if x < 5 else "end" if x > 95 else "middle"))
    return tuple(ticks)


def pitch_ticks() -> tuple[tuple[str, float], ...]:
    """Return labels of frequencies beside a spectrogram, and their heights in percent from the top."""
    return tuple(
        (
            f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz",
            round(100 - percent(_mel(hz) / _mel(HIGHEST_HZ)), 2),
        )
        for hz in SHOWN_HZ
    )


def _highest_frames(frames: Sequence[Record], duration_s: float) -> list[Record]:
    """Return the highest-scored frame of each of MOST_BARS equal parts of the time, where there is one."""
    highest: dict[int, Record] = {}
    for frame in frames:
        part = min(int(MOST_BARS * frame["timestamp_s"] / duration_s), MOST_BARS - 1)
        if part not in highest or frame["probability"] > highest[part]["probability"]:
            highest[part] = frame
    return list(highest.values())


def _frame_title(frame: Record) -> str:
    return f"{format_timestamp(frame['timestamp_s'])}: {format_probability(frame['probability'])}"


def _mel(hz: float) -> float:
    return math.log10(1 + hz / 700)


def _share_ys(height: int, highest_bar: int) -> tuple[tuple[str, float], ...]:
    return tuple((f"{share:.0%}", height - highest_bar * share) for share in SHARES)


def format_tenths(seconds: float) -> str:
    """Return a time to a tenth of a second, such as "1:07.5": segments begin about a second apart."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
