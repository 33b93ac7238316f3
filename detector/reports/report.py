"""The report on one picture: a neutral structure of words and pictures, for HTML and PDF alike."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.evidence import DEGRADATION_LABELS, DeletionCheck, RobustnessResult, robustness_sentence
from detector.media import encode_jpeg
from detector.models.heatmaps import colour_heatmap
from detector.models.spec import ModelSpec
from detector.pictures.faces import finder_settings
from detector.provenance.findings import Provenance
from detector.record import CheckedExplanation
from detector.reports.phrases import (
    advice,
    error_rate_origin,
    error_rate_sentence,
    headline,
    map_caption,
    method_name,
    reason_sentence,
    size_sentence,
    verdict_error_sentence,
    was_checked,
)
from detector.results import ERROR_CLASS_BY_VERDICT, Face, PictureDetection, Verdict
from detector.text import format_bytes, format_count, format_datetime, format_percent, format_probability, sanitize_text

PICTURE_SIDE_PX = 1000  # longer side of the pictures in a report
BOX_COLOUR = (52, 80, 196)


@dataclass(frozen=True)
class ReportPicture:
    """A JPEG file with its caption."""

    jpeg: bytes
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class Entry:
    """A sentence in bold, and the lines below."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading, in this order; empty parts are left out."""

    title: str
    paragraphs: tuple[str, ...] = ()
    pictures: tuple[ReportPicture, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report before it is rendered.

    Attributes:
        verdict: sets the colour of the headline.
        headline, paragraphs: the summary.
        sections: the details.
        checked_at: when the picture was analysed; None leaves it out.
    """

    verdict: Verdict
    headline: str
    paragraphs: tuple[str, ...]
    sections: tuple[Section, ...]
    checked_at: datetime | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """Everything known about one analysed picture.

    Attributes:
        data: the bytes of its file.
        detection: the verdict.
        provenance: what the file states about its origin.
        spec: of the network behind the verdict.
        engine: which engine ran the network, "onnx" or "keras".
        filename: the sender's name for the file; only displayed.
        checked_at: when the picture was analysed; None leaves it out.
        explanations: of the first face, the class map first.
        robustness: result of the robustness test; None if it was not run.
        sections: further parts of the report.
    """

    data: bytes
    detection: PictureDetection
    provenance: Provenance
    spec: ModelSpec
    engine: str = "onnx"
    filename: str | None = None
    checked_at: datetime | None = None
    explanations: tuple[CheckedExplanation, ...] = ()
    robustness: RobustnessResult | None = None
    sections: tuple[Section, ...] = ()


def make_report(evidence: Evidence, *, version: str) -> Report:
    """Put the evidence on a picture into words and pictures.

    Args:
        evidence: what is known about the picture.
        version: of this package.
    """
    detection = evidence.detection
    return Report(
        verdict=detection.verdict,
        headline=headline(detection.verdict, reasons=detection.reasons),
        paragraphs=tuple(_summary(detection)),
        sections=(
            Section("What to do now", paragraphs=advice(detection.verdict, reasons=detection.reasons)),
            _picture_section(evidence),
            *([_score_section(detection)] if was_checked(detection.reasons) else []),
            *([_face_section(detection)] if detection.faces else []),
            *([_explanation_section(evidence.explanations)] if evidence.explanations else []),
            *([_robustness_section(evidence.robustness)] if evidence.robustness else []),
            *evidence.sections,
            _origin_section(evidence.provenance),
            _method_section(evidence, version),
            _verification_section(evidence),
        ),
        checked_at=evidence.checked_at,
    )


def _summary(detection: PictureDetection) -> Iterator[str]:
    if not was_checked(detection.reasons):
        for reason in detection.reasons:
            yield reason_sentence(reason)
        return
    yield verdict_error_sentence(_verdict_rates(detection))
    yield from (reason_sentence(reason) for reason in detection.reasons)
    yield "This is our estimate: a hint, not proof."


def _verdict_rates(detection: PictureDetection) -> list[dict[str, Any]]:
    """Return the error rates that belong to the verdict, as a record holds them."""
    return [vars(rate) for rate in detection.error_rates if rate.kind in ERROR_CLASS_BY_VERDICT[detection.verdict]]


def _score_section(detection: PictureDetection) -> Section:
    return Section("Details of the score", paragraphs=tuple(_describe_score(detection)))


def _describe_score(detection: PictureDetection) -> Iterator[str]:
    yield f"The probability that it is a deepfake is {format_probability(detection.probability)}."
    yield "This assumes that half of such pictures are fake. If fakes are rarer, the true chance is lower."
    rates = _verdict_rates(detection)
    yield from (error_rate_sentence(rate) for rate in rates)
    if rates:
        interval = "The range in brackets is the 95% interval."
        yield " ".join(filter(None, [size_sentence(rates[0]), interval, error_rate_origin(rates[0])]))


def _picture_section(evidence: Evidence) -> Section:
    detection, provenance = evidence.detection, evidence.provenance
    facts = [
        ("Name", sanitize_text(evidence.filename or "") or "not stated"),
        ("Format and size", f"{provenance.media_type}, {format_bytes(provenance.size_bytes)}"),
        ("Dimensions", f"{format_count(detection.width_px)} × {format_count(detection.height_px)} pixels"),
    ]
    if evidence.checked_at:
        facts.append(("Checked on", format_datetime(evidence.checked_at)))
    return Section("The picture", pictures=tuple(_draw_pictures(evidence)), facts=tuple(facts))


def _draw_pictures(evidence: Evidence) -> Iterator[ReportPicture]:
    image, faces = evidence.detection.image, evidence.detection.faces
    boxes = [(str(number), face.box) for number, face in enumerate(faces, 1)]
    yield ReportPicture(_draw(image, boxes, []), _boxes_sentence(evidence.detection))
    heat = [(face.heatmap, face.crop_box) for face in faces if face.heatmap is not None and was_checked(face.reasons)]
    if heat:
        caption = "Class activation map. Warm colours mark evidence of a fake. Areas without evidence have no colour."
        first = next((one for one in evidence.explanations if one.method == "class_map"), None)
        if first is not None:
            caption += f" {_caption(first)}"
        yield ReportPicture(_draw(image, boxes, heat), caption)
    for explanation in evidence.explanations:
        if explanation.method == "class_map" or explanation.heatmap is None:  # the faces' own maps are drawn above
            continue
        jpeg = _draw(image, boxes[:1], [(explanation.heatmap, faces[0].crop_box)])
        yield ReportPicture(jpeg, f"{method_name(explanation.method)}, face 1. {_caption(explanation)}")


def _caption(explanation: CheckedExplanation) -> str:
    check = explanation.check
    return map_caption(explanation.sentence, None if check is None else check.matters)


def _boxes_sentence(detection: PictureDetection) -> str:
    if not detection.faces:
        return "No face was found in this picture."
    if len(detection.faces) == 1:
        return "One face was found."
    return f"{len(detection.faces)} faces were found. The verdict is that of the most suspicious one, number 1."


def _face_section(detection: PictureDetection) -> Section:
    facts = [(f"Face {number}", _describe_face(face)) for number, face in enumerate(detection.faces, 1)]
    return Section("The face" if len(facts) == 1 else "The faces, the most suspicious first", facts=tuple(facts))


def _describe_face(face: Face) -> str:
    x, y, w, h = face.box
    left, top, side, _ = face.crop_box
    sentences = [f"Could not be checked: {reason_sentence(reason)}" for reason in face.reasons]
    if was_checked(face.reasons):
        sentences.append(f"Probability of being fake {format_probability(face.probability)} (logit {face.logit:.4f}).")
    if face.detection_score is not None:
        sentences.append(f"Face finder's confidence {format_percent(face.detection_score)}.")
    sentences += [
        f"Left {x}, top {y}, {w} × {h} pixels.",
        f"The network saw the square at left {left}, top {top}, side {side} pixels.",
    ]
    return " ".join(sentences)


def _explanation_section(explanations: tuple[CheckedExplanation, ...]) -> Section:
    entries = []
    for explanation in explanations:
        lines = (explanation.sentence, *_describe_check(explanation.check))
        entries.append(Entry(f"{method_name(explanation.method)}, face 1", tuple(filter(None, lines))))
    return Section("What the score is based on", entries=tuple(entries))


def _describe_check(check: DeletionCheck | None) -> Iterator[str]:
    if check is None:
        yield "We did not test whether the score depends on the marked areas."
        return
    yield check.sentence
    for share, marked, elsewhere in zip(check.shares, check.logits, check.random_logits, strict=True):
        if share:
            yield f"{share:.0%} blurred: logit {marked:.2f}. As much blurred elsewhere, on average: {elsewhere:.2f}."
        else:
            yield f"Nothing blurred: logit {marked:.2f}."


def _robustness_section(robustness: RobustnessResult) -> Section:
    lines = (
        robustness_sentence(robustness),
        "We scored altered copies of the face. This is not used for the verdict. In our tests it found wrong verdicts "
        "no better than the score alone.",
    )
    facts = [
        (
            DEGRADATION_LABELS.get(score.name, score.name),
            f"{format_probability(score.probability)}, {score.verdict} (logit {score.logit:.4f})",
        )
        for score in robustness.scores
    ]
    return Section("Altered copies of the picture", paragraphs=lines, facts=tuple(facts))


def _origin_section(provenance: Provenance) -> Section:
    entries = [
        Entry(finding.fact, (f"It can mean: {finding.can_mean}", f"It cannot mean: {finding.cannot_mean}"))
        for finding in provenance.findings
    ]
    entries += [Entry(f"Text “{text.name}”", (text.text,)) for text in provenance.texts]
    intro = "Information stored in the file. It is not used for the score, and anyone can edit it."
    return Section("Where the file comes from", paragraphs=(intro,), entries=tuple(entries))


def _method_section(evidence: Evidence, version: str) -> Section:
    spec = evidence.spec
    line = spec.calibration
    score_facts = (
        ("Real up to", format_probability(line.threshold_real)),
        ("Deepfake from", format_probability(line.threshold_fake)),
        ("Probability", f"1 / (1 + exp(-({line.slope:.6g} × logit {line.intercept:+.6g})))"),
        ("Logit", f"{evidence.detection.logit:.6f}"),
    )
    facts = (
        *(score_facts if was_checked(evidence.detection.reasons) else ()),
        ("Network", f"{spec.network}, {spec.face.size_px} × {spec.face.size_px} pixels of each face"),
        ("Crop", f"a square of {spec.face.crop_margin:g} times the longer side of the face box"),
        ("Face finder", finder_settings()),
        ("SHA-256 of the model", evidence.detection.model_sha256),
        ("Version of the detector", version),
    )
    return Section("How the verdict was computed", facts=facts)


def _verification_section(evidence: Evidence) -> Section:
    lines = (
        "“python -m detector verify BUNDLE.zip” checks the original again and prints “same” or the differences. It "
        "reads detection.json, so compare its output with this report.",
        "The bundle is not signed. Only its maker can confirm, by its SHA-256, that it is unchanged.",
    )
    facts = (("SHA-256 of the file", evidence.provenance.sha256),)
    return Section("How to check this", paragraphs=lines, facts=facts)


def _draw(
    image: np.ndarray,
    boxes: list[tuple[str, tuple[int, int, int, int]]],
    heat: list[tuple[np.ndarray, tuple[int, int, int, int]]],
) -> bytes:
    """Return the picture as JPEG, small enough for a report, with heat maps and numbered face boxes."""
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
    return encode_jpeg(np.asarray(picture), quality=85)
