"""The report on one judged picture: one neutral structure, rendered as HTML and as PDF, so that both say the same."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.evidence.explanation_checks import DEGRADATION_LABELS, robustness_sentence
from detector.evidence.explanations import DeletionCheck
from detector.evidence.robustness import RobustnessResult
from detector.media.images import encode_jpeg
from detector.models.heatmaps import colour_heatmap
from detector.models.spec import ModelSpec
from detector.pictures.faces import finder_settings
from detector.provenance.findings import Provenance
from detector.reports.phrases import error_rate_sentence, format_face_sizes, headline, reason_sentence
from detector.results import ERROR_CLASS_BY_VERDICT, Face, PictureDetection, Verdict
from detector.text import format_bytes, format_count, format_datetime, format_percent, format_probability, sanitize_text

TEMPLATE = "report.html"  # beside this file
PICTURE_SIDE_PX = 1000  # longer side of the pictures in a report
COLOURS = {Verdict.REAL: (13, 122, 82), Verdict.DEEPFAKE: (187, 42, 53), Verdict.INCONCLUSIVE: (138, 90, 0)}
BOX_COLOUR = (52, 80, 196)
PDF_ENCODING = "windows-1252"  # all that a PDF's own fonts can write; they need no font file
PDF_PICTURE_MM = 80  # height at most, so that two fit on a page below the headline
# A PDF states when it was made; without a time of its own it gets this one, so that equal reports are equal bytes.
NO_TIME = datetime(1980, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class FaceMap:
    """What is to be said of one explanation of one face's score.

    Attributes:
        title: what it is, such as "LIME".
        face: which of `PictureDetection.faces`, from 0.
        heatmap: (h, w) float32 in [0, 1] over the face's crop box, 1 = speaks for a fake, .5 = neutral; None for the
            class activation map, which the face itself holds.
        sentence: the same in words; empty for none.
        check: whether the score rests on what it marks; None when that was not tried.
    """

    title: str
    face: int
    heatmap: np.ndarray | None
    sentence: str = ""
    check: DeletionCheck | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the heat map."""
        check = None if self.check is None else self.check.to_dict()
        return {"title": self.title, "face": self.face, "sentence": self.sentence, "check": check}


@dataclass(frozen=True)
class ReportPicture:
    """A JPEG file with what it shows in words."""

    jpeg: bytes
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class Entry:
    """A sentence that stands out, and what follows from it."""

    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading of its own, in this order; what is empty does not appear."""

    title: str
    paragraphs: tuple[str, ...] = ()
    pictures: tuple[ReportPicture, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report before it is HTML or PDF.

    Attributes:
        verdict: which colour the headline has.
        headline, paragraphs: what comes first.
        sections: the rest.
        checked_at: when the picture was judged; None leaves it out.
    """

    verdict: Verdict
    headline: str
    paragraphs: tuple[str, ...]
    sections: tuple[Section, ...]
    checked_at: datetime | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """All there is to say of one judged picture.

    Attributes:
        data: its file.
        detection: the verdict on it.
        provenance: what the file says of its origin.
        spec: of the network that judged it.
        engine: which one ran it, "onnx" or "keras".
        filename: as its sender calls it; only ever shown.
        checked_at: when it was judged; None leaves it out.
        maps: explanations, beside the heat maps of the faces.
        stability: what the delivery test found; None when it was not made.
        sections: further parts of the report.
    """

    data: bytes
    detection: PictureDetection
    provenance: Provenance
    spec: ModelSpec
    engine: str = "onnx"
    filename: str | None = None
    checked_at: datetime | None = None
    maps: tuple[FaceMap, ...] = ()
    stability: RobustnessResult | None = None
    sections: tuple[Section, ...] = ()


def make_report(evidence: Evidence, *, version: str) -> Report:
    """Put into words and pictures what is known of a judged picture.

    Args:
        evidence: what is known.
        version: of this package.
    """
    detection = evidence.detection
    return Report(
        verdict=detection.verdict,
        headline=headline(detection.verdict),
        paragraphs=tuple(_summary(detection)),
        sections=(
            _picture_section(evidence),
            *([_face_section(detection)] if detection.faces else []),
            *([_explanation_section(evidence.maps)] if evidence.maps else []),
            *([_delivery_section(evidence.stability)] if evidence.stability else []),
            *evidence.sections,
            _origin_section(evidence.provenance),
            _method_section(evidence, version),
            _check_section(evidence),
        ),
        checked_at=evidence.checked_at,
    )


def render_html(report: Report) -> str:
    """Render a report as one HTML page that needs no other file and runs no script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only reports pay for its start

    folder = FileSystemLoader(Path(__file__).parent)
    templates = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[report.verdict])
    return templates.get_template(TEMPLATE).render(report=report, colour=colour)


def render_pdf(report: Report) -> bytes:
    """Render a report as PDF; a letter its fonts do not have is written as its number, such as \\u4f60."""
    from fpdf import FPDF  # only reports pay for its start, which takes as long as the network's

    pdf = FPDF(format="A4")
    pdf.core_fonts_encoding = PDF_ENCODING
    pdf.set_title(_typeset(report.headline))
    pdf.set_lang("en")
    pdf.set_creation_date(report.checked_at or NO_TIME)
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, margin=18)
    pdf.add_page()

    def write(text: str, size_pt: int, *, style: str = "", colour: tuple[int, int, int] = (23, 32, 46)) -> None:
        pdf.set_font("Helvetica", style, size_pt)
        pdf.set_text_color(*colour)
        pdf.multi_cell(0, size_pt * 0.5, _typeset(text), align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.ln(1)

    write(report.headline, 24, style="B", colour=COLOURS[report.verdict])
    for paragraph in report.paragraphs:
        write(paragraph, 11)
    for section in report.sections:
        pdf.ln(4)
        write(section.title, 15, style="B")
        for paragraph in section.paragraphs:
            write(paragraph, 11)
        for picture in section.pictures:
            with Image.open(io.BytesIO(picture.jpeg)) as image:
                height_mm = min(PDF_PICTURE_MM, pdf.epw * image.height / image.width)
            if pdf.will_page_break(height_mm + 10):
                pdf.add_page()
            pdf.image(io.BytesIO(picture.jpeg), h=height_mm, alt_text=_typeset(picture.caption))
            pdf.ln(1)
            write(picture.caption, 9, colour=(86, 96, 114))
        for name, value in section.facts:
            write(name, 9, colour=(86, 96, 114))
            write(value, 11)
        for entry in section.entries:
            write(entry.title, 11, style="B")
            for line in entry.lines:
                write(line, 10)
    return bytes(pdf.output())


def _typeset(text: str) -> str:
    """Return a text with every letter that a PDF's own fonts lack written as its number."""
    composed = unicodedata.normalize("NFC", text)
    return composed.encode(PDF_ENCODING, errors="backslashreplace").decode(PDF_ENCODING)


def _summary(detection: PictureDetection) -> Iterator[str]:
    yield f"The probability that it is a deepfake is {format_probability(detection.probability)}."
    yield "That is as if half of all such pictures were deepfakes; where few are, it is less."
    yield from (reason_sentence(reason) for reason in detection.reasons)
    rates = [rate.to_dict() for rate in detection.error_rates if rate.kind in ERROR_CLASS_BY_VERDICT[detection.verdict]]
    yield from (error_rate_sentence(rate) for rate in rates)
    if rates:
        size = format_face_sizes(rates[0])
        yield (
            f"This size is a face of {size}; a range in brackets is the 95% interval. "
            "The model has not learned from held-out pictures."
        )
    else:
        yield "How often such a verdict is wrong has not been measured for this picture."
    yield "A verdict is a hint and no proof."


def _picture_section(evidence: Evidence) -> Section:
    detection = evidence.detection
    boxes = [(str(number), face.box) for number, face in enumerate(detection.faces, 1)]
    pictures = [ReportPicture(_draw(detection.image, boxes, []), _boxes_sentence(detection))]
    heat = [(face.heatmap, face.crop_box) for face in detection.faces if face.heatmap is not None]
    if heat:
        caption = (
            "The class activation map: warm colours mark what spoke for a fake; where nothing did, there is no colour."
        )
        pictures.append(ReportPicture(_draw(detection.image, boxes=boxes, heat=heat), caption))
    for extra in evidence.maps:
        if extra.heatmap is None:
            continue
        face = detection.faces[extra.face]
        jpeg = _draw(detection.image, [(str(extra.face + 1), face.box)], [(extra.heatmap, face.crop_box)])
        pictures.append(ReportPicture(jpeg, f"{extra.title}, face {extra.face + 1}. {extra.sentence}".rstrip()))
    provenance = evidence.provenance
    facts = [
        ("Name", sanitize_text(evidence.filename or "") or "not stated"),
        ("Kind and size", f"{provenance.media_type}, {format_bytes(provenance.size_bytes)}"),
        ("Dimensions", f"{format_count(detection.width_px)} × {format_count(detection.height_px)} pixels"),
    ]
    if evidence.checked_at:
        facts.append(("Checked on", format_datetime(evidence.checked_at)))
    return Section("The picture", pictures=tuple(pictures), facts=tuple(facts))


def _boxes_sentence(detection: PictureDetection) -> str:
    if not detection.faces:
        return "No face was found in this picture."
    if len(detection.faces) == 1:
        return "One face was found."
    return f"{len(detection.faces)} faces were found; the verdict is that of the most suspicious one, number 1."


def _face_section(detection: PictureDetection) -> Section:
    facts = [(f"Face {number}", _face_words(face)) for number, face in enumerate(detection.faces, 1)]
    return Section("The face" if len(facts) == 1 else "The faces, the most suspicious first", facts=tuple(facts))


def _face_words(face: Face) -> str:
    x, y, w, h = face.box
    left, top, side, _ = face.crop_box
    words = [
        f"probability of being fake {format_probability(face.probability)} (logit {face.logit:.4f})",
        f"left {x}, top {y}, {w} × {h} pixels",
        f"the network saw the square at left {left}, top {top}, side {side} pixels",
    ]
    if face.detection_score is not None:
        words.insert(1, f"face finder's confidence {format_percent(face.detection_score)}")
    words += [f"not judged: {reason_sentence(reason)}" for reason in face.reasons]
    return "; ".join(words)


def _explanation_section(maps: tuple[FaceMap, ...]) -> Section:
    entries = []
    for found in maps:
        lines = (found.sentence, *_check_lines(found.check))
        entries.append(Entry(f"{found.title}, face {found.face + 1}", tuple(filter(None, lines))))
    return Section("What the score rests on", entries=tuple(entries))


def _check_lines(check: DeletionCheck | None) -> Iterator[str]:
    if check is None:
        yield "Whether the score rests on what this map marks was not tried."
        return
    yield check.sentence
    for share, marked, elsewhere in zip(check.shares, check.logits, check.random_logits, strict=True):
        if share:
            yield f"{share:.0%} removed: logit {marked:.2f}; as much elsewhere, on average: {elsewhere:.2f}."
        else:
            yield f"Nothing removed: logit {marked:.2f}."


def _delivery_section(stability: RobustnessResult) -> Section:
    lines = (
        robustness_sentence(stability),
        "The face was scored again as it would look after each kind of damage. This has no part in the verdict: on "
        "pictures with a known truth it told wrong verdicts no better than the distance to the threshold does.",
    )
    facts = [
        (
            DEGRADATION_LABELS.get(delivery.name, delivery.name),
            f"{format_probability(delivery.probability)}, {delivery.verdict} (logit {delivery.logit:.4f})",
        )
        for delivery in stability.scores
    ]
    return Section("The same picture, delivered otherwise", paragraphs=lines, facts=tuple(facts))


def _origin_section(provenance: Provenance) -> Section:
    entries = [
        Entry(finding.fact, (f"It can mean: {finding.can_mean}", f"It cannot mean: {finding.cannot_mean}"))
        for finding in provenance.findings
    ]
    entries += [Entry(f"Text “{text.name}”", (text.text,)) for text in provenance.texts]
    intro = "This stands beside the pixels: nothing of it went into the score."
    return Section("Where the file comes from", paragraphs=(intro,), entries=tuple(entries))


def _method_section(evidence: Evidence, version: str) -> Section:
    spec = evidence.spec
    line = spec.calibration
    facts = (
        ("Real up to", format_probability(line.threshold_real)),
        ("Deepfake from", format_probability(line.threshold_fake)),
        ("Network", f"{spec.network}, {spec.face.size_px} × {spec.face.size_px} pixels of each face"),
        ("Crop", f"a square of {spec.face.crop_margin:g} times the longer side of the face box"),
        ("Probability", f"1 / (1 + exp(-({line.slope:.6g} × logit {line.intercept:+.6g})))"),
        ("Logit", f"{evidence.detection.logit:.6f}"),
        ("Face finder", finder_settings()),
        ("SHA-256 of the model", evidence.detection.model_sha256),
        ("Version of the detector", version),
    )
    return Section("How the verdict came about", facts=facts)


def _check_section(evidence: Evidence) -> Section:
    lines = (
        "“python -m detector verify BUNDLE.zip” judges the original again and says whether it comes to the same, or "
        "what differs. It goes by detection.json: compare what it prints with this report.",
        "Nothing here is signed: whether the bundle is the one that was made, only its maker can tell, by its SHA-256.",
    )
    facts = (("SHA-256 of the file", evidence.provenance.sha256),)
    return Section("How to check this", paragraphs=lines, facts=facts)


def _draw(
    image: np.ndarray,
    boxes: list[tuple[str, tuple[int, int, int, int]]],
    heat: list[tuple[np.ndarray, tuple[int, int, int, int]]],
) -> bytes:
    """Return the picture as JPEG, small enough for a report, with heat over it and a box around each face."""
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
