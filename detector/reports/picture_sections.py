"""The parts of a report that only a picture has: its faces, the explanations, altered copies, and its origin."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evidence import DEGRADATION_LABELS, DeletionCheck, RobustnessResult, robustness_sentence
from detector.pictures.faces import finder_settings
from detector.provenance.findings import Provenance
from detector.record import CheckedExplanation
from detector.reports.drawings import draw_faces
from detector.reports.evidence import Evidence
from detector.reports.phrases import map_caption, method_name, reason_sentence, was_checked
from detector.reports.structure import Entry, ReportPicture, Section
from detector.results import Face, PictureDetection
from detector.text import format_count, format_percent, format_probability


def picture_facts(detection: PictureDetection) -> Iterator[tuple[str, str]]:
    """Yield what is known about a picture beside its file."""
    yield "Dimensions", f"{format_count(detection.width_px)} × {format_count(detection.height_px)} pixels"


def face_network_facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield how the faces of a picture or of a frame were prepared and scored."""
    spec = evidence.spec
    yield "Network", f"{spec.network}, {spec.face.size_px} × {spec.face.size_px} pixels of each face"
    yield "Crop", f"a square of {spec.face.crop_margin:g} times the longer side of the face box"
    yield "Face finder", finder_settings()


def draw_picture(evidence: Evidence, detection: PictureDetection) -> Iterator[ReportPicture]:
    """Yield the picture with its faces, with the class maps, and with each further explanation."""
    image, faces = detection.image, detection.faces
    boxes = [(str(number), face.box) for number, face in enumerate(faces, 1)]
    yield ReportPicture(draw_faces(image, boxes, []), _boxes_sentence(detection))
    heat = [(face.heatmap, face.crop_box) for face in faces if face.heatmap is not None and was_checked(face.reasons)]
    if heat:
        caption = "Class activation map. Warm colours mark evidence of a fake. Areas without evidence have no colour."
        first = next((one for one in evidence.explanations if one.method == "class_map"), None)
        if first is not None:
            caption += f" {_caption(first)}"
        yield ReportPicture(draw_faces(image, boxes, heat), caption)
    for explanation in evidence.explanations:
        if explanation.method == "class_map" or explanation.heatmap is None:  # the faces' own maps are drawn above
            continue
        jpeg = draw_faces(image, boxes[:1], [(explanation.heatmap, faces[0].crop_box)])
        yield ReportPicture(jpeg, f"{method_name(explanation.method)}, face 1. {_caption(explanation)}")


def picture_details(evidence: Evidence, detection: PictureDetection) -> Iterator[Section]:
    """Yield the details of a picture."""
    if detection.faces:
        yield _face_section(detection)
    if evidence.explanations:
        yield _explanation_section(evidence.explanations)
    if evidence.robustness:
        yield _robustness_section(evidence.robustness)
    yield from evidence.sections
    if evidence.provenance:
        yield _origin_section(evidence.provenance)


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
