"""The report on one file: what all media share, around the parts of each medium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detector.media import MEDIA
from detector.reports.evidence import Evidence
from detector.reports.phrases import (
    advice,
    error_rate_origin,
    error_rate_sentence,
    headline,
    reason_sentence,
    size_sentence,
    verdict_error_sentence,
    was_checked,
)
from detector.reports.picture_sections import draw_picture, face_network_facts, picture_details, picture_facts
from detector.reports.recording_sections import (
    video_details,
    video_facts,
    voice_details,
    voice_facts,
    voice_network_facts,
)
from detector.reports.structure import Report, ReportPicture, Section
from detector.results import ERROR_CLASS_BY_VERDICT, Detection, PictureDetection, VideoDetection, VoiceDetection
from detector.text import format_bytes, format_datetime, format_probability, sanitize_text


def make_report(evidence: Evidence, *, version: str) -> Report:
    """Put the evidence on a file into words and pictures.

    Args:
        evidence: what is known about the file.
        version: of this package.
    """
    detection = evidence.detection
    return Report(
        verdict=detection.verdict,
        headline=headline(detection.verdict, detection.media, detection.reasons),
        paragraphs=tuple(_summary(evidence)),
        sections=(
            Section("What to do now", paragraphs=advice(detection.verdict, detection.media, detection.reasons)),
            _file_section(evidence),
            *([_score_section(detection)] if was_checked(detection.reasons) else []),
            *_medium_sections(evidence),
            _method_section(evidence, version),
            _verification_section(evidence),
        ),
        checked_at=evidence.checked_at,
    )


def _summary(evidence: Evidence) -> Iterator[str]:
    detection = evidence.detection
    if not was_checked(detection.reasons):
        for reason in detection.reasons:
            yield reason_sentence(reason)
        return
    rates = _verdict_rates(detection)
    yield (not rates and evidence.error_sentence) or verdict_error_sentence(rates, detection.media)
    yield from (reason_sentence(reason) for reason in detection.reasons)
    yield "This is our estimate: a hint, not proof."


def _verdict_rates(detection: Detection) -> list[dict[str, Any]]:
    """Return the error rates that belong to the verdict, as a record holds them."""
    return [vars(rate) for rate in detection.error_rates if rate.kind in ERROR_CLASS_BY_VERDICT[detection.verdict]]


def _file_section(evidence: Evidence) -> Section:
    facts = [
        ("Name", sanitize_text(evidence.filename or "") or "not stated"),
        ("Format and size", f"{evidence.facts.media_type}, {format_bytes(evidence.facts.size_bytes)}"),
        *_medium_facts(evidence.detection),
    ]
    if evidence.checked_at:
        facts.append(("Checked on", format_datetime(evidence.checked_at)))
    pictures = (*_medium_pictures(evidence), *evidence.pictures)
    return Section(f"The {MEDIA[evidence.detection.media].item}", pictures=pictures, facts=tuple(facts))


def _score_section(detection: Detection) -> Section:
    return Section("Details of the score", paragraphs=tuple(_describe_score(detection)))


def _describe_score(detection: Detection) -> Iterator[str]:
    media = detection.media
    yield f"The probability that it is a deepfake is {format_probability(detection.probability)}."
    yield f"This assumes that half of such {MEDIA[media].item}s are fake. If fakes are rarer, the true chance is lower."
    rates = _verdict_rates(detection)
    yield from (error_rate_sentence(rate, media) for rate in rates)
    if rates:
        interval = "The range in brackets is the 95% interval."
        yield " ".join(filter(None, [size_sentence(rates[0], media), interval, error_rate_origin(rates[0], media)]))


def _method_section(evidence: Evidence, version: str) -> Section:
    line = evidence.spec.calibration
    score_facts = (
        ("Real up to", format_probability(line.threshold_real)),
        ("Deepfake from", format_probability(line.threshold_fake)),
        ("Probability", f"1 / (1 + exp(-({line.slope:.6g} × logit {line.intercept:+.6g})))"),
        ("Logit", f"{evidence.detection.logit:.6f}"),
    )
    facts = (
        *(score_facts if was_checked(evidence.detection.reasons) else ()),
        *_network_facts(evidence),
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
    facts = (("SHA-256 of the file", evidence.facts.sha256),)
    return Section("How to check this", paragraphs=lines, facts=facts)


# what differs between the media


def _medium_facts(detection: Detection) -> Iterator[tuple[str, str]]:
    match detection:
        case PictureDetection():
            yield from picture_facts(detection)
        case VideoDetection():
            yield from video_facts(detection)
        case VoiceDetection():
            yield from voice_facts(detection)


def _medium_pictures(evidence: Evidence) -> Iterator[ReportPicture]:
    if isinstance(evidence.detection, PictureDetection):
        yield from draw_picture(evidence, evidence.detection)


def _medium_sections(evidence: Evidence) -> Iterator[Section]:
    match evidence.detection:
        case PictureDetection() as picture:
            yield from picture_details(evidence, picture)
        case VideoDetection() as video:
            yield from video_details(evidence, video)
        case VoiceDetection() as voice:
            yield from voice_details(evidence, voice)


def _network_facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if isinstance(evidence.detection, VoiceDetection):
        yield from voice_network_facts(evidence.spec)
    else:
        yield from face_network_facts(evidence)
