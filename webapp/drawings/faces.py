"""Boxes and numbers of the faces of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 600, 520  # about the largest size of a picture on the page


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
