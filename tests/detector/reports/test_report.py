import base64
import html
import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from detector.evidence import DegradedScore, DeletionCheck, RobustnessResult, robustness_sentence
from detector.provenance.findings import read_provenance
from detector.record import CheckedExplanation
from detector.reports.bundle import build_bundle
from detector.reports.evidence import Evidence
from detector.reports.phrases import KNOWN_PHRASE
from detector.reports.rendering import render_html, render_pdf
from detector.reports.report import make_report
from detector.reports.structure import Entry, Section
from detector.results import Face, Reason, Verdict
from detector.text import format_probability

HOSTILE = "<script>alert(1)</script> “你好” \u202e\x1b[31m 🙂 " + "x" * 300 + ".png"


@pytest.fixture(scope="module")
def evidence(face_jpeg, picture_detector):
    detection = picture_detector.detect(face_jpeg)
    return Evidence(
        data=face_jpeg,
        detection=detection,
        provenance=read_provenance(face_jpeg, image=detection.image),
        spec=picture_detector.engine.spec,
        filename="portrait.jpg",
        checked_at=datetime(2026, 11, 20, 8, 39, tzinfo=UTC),
    )


def with_detection(evidence, **changes):
    return replace(evidence, detection=replace(evidence.detection, **changes))


def report_on(evidence):
    return make_report(evidence, version="1.2.3")


def words_of(report):
    """Every text of a report, in its order."""
    yield report.headline
    yield from report.paragraphs
    for section in report.sections:
        yield section.title
        yield from section.paragraphs
        yield from (picture.caption for picture in section.pictures)
        yield from (word for fact in section.facts for word in fact)
        for entry in section.entries:
            yield from (entry.title, *entry.lines)


def words_in_html(page):
    body = re.sub(r"<(style|title)>.*?</\1>", "", page, flags=re.DOTALL)
    texts = (html.unescape(text).strip() for text in re.split(r"<[^>]*>", body))
    return [text for text in texts if text]


def words_in_pdf(pdf):
    """The text of a PDF, spaces left out since a line may end anywhere."""
    import zlib

    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    # a decompressing object, since the pattern takes a stream's last byte for a line end if it is one
    pages = b"".join(zlib.decompressobj().decompress(stream) for stream in streams if stream[:1] == b"x")
    shown = re.findall(rb"\(((?:\\.|[^\\()])*)\) Tj", pages, re.DOTALL)
    text = re.sub(rb"\\(.)", rb"\1", b"".join(shown)).decode("windows-1252")
    return re.sub(r"\s", "", text)


def test_both_renderings_say_every_word_of_the_report(evidence):
    report = report_on(evidence)
    words = list(words_of(report))
    assert words_in_html(render_html(report)) == [word.strip() for word in words]
    assert words_in_pdf(render_pdf(report)) == re.sub(r"\s", "", "".join(words))


@pytest.mark.parametrize("is_unseen", [False, True], ids=["known", "unseen"])
@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.REAL, "This is a Real Image!"),
        (Verdict.DEEPFAKE, "This is a Deepfake Image!"),
        (Verdict.INCONCLUSIVE, "Inconclusive"),
    ],
)
def test_the_headline_is_the_page_s(verdict, words, is_unseen, evidence):
    reasons = (Reason.BETWEEN_THRESHOLDS,) if verdict is Verdict.INCONCLUSIVE else ()
    rates = tuple(replace(rate, unseen=is_unseen) for rate in evidence.detection.error_rates)
    report = report_on(with_detection(evidence, verdict=verdict, reasons=reasons, error_rates=rates))
    text = "".join(words_of(report))
    assert report.headline == words and format_probability(evidence.detection.probability) in text
    assert ("two thresholds" in text) == bool(reasons)
    reals = "1,000 real pictures from sources it had not seen" if is_unseen else "1,000 real pictures scored this high"
    fakes = "1,000 deepfakes of kinds it had not seen" if is_unseen else "1,000 deepfakes scored this low"
    assert (reals in text) == (verdict is not Verdict.REAL) and (fakes in text) == (verdict is not Verdict.DEEPFAKE)
    assert ("Other collections were not measured" in text) is (KNOWN_PHRASE in text) is not is_unseen


def test_a_report_names_file_model_and_version(evidence):
    text = "\n".join(words_of(report_on(evidence)))
    for word in (
        *("portrait.jpg", "20 November 2026, 08:39 UTC", "512 × 512 pixels", "1.2.3", "It was last saved as JPEG"),
        *(evidence.provenance.sha256, evidence.detection.model_sha256, "It is not used for the score"),
    ):
        assert word in text


def test_without_a_measurement_the_report_says_so(evidence):
    assert "has not been measured" in "".join(words_of(report_on(with_detection(evidence, error_rates=()))))


def test_a_picture_without_a_face(evidence):
    changed = with_detection(
        evidence, faces=(), error_rates=(), verdict=Verdict.INCONCLUSIVE, reasons=(Reason.NO_FACE,)
    )
    report = report_on(changed)
    assert report.headline == "Could not be checked: no face found"
    assert "No face was found in this picture." in list(words_of(report))
    assert not NUMBERS.search("\n".join(words_of(report)))
    assert render_html(report) and render_pdf(report)


def maps_in(bundle):
    return [name for name in zipfile.ZipFile(io.BytesIO(bundle)).namelist() if name.startswith("maps/")]


NUMBERS = re.compile("logit|probability|Real up to|Deepfake from|scored this", re.IGNORECASE)


@pytest.mark.parametrize("reason", [Reason.TOO_SMALL, Reason.TOO_BLURRED, Reason.TOO_DARK, Reason.DRAWING])
def test_what_was_not_checked_has_no_number_and_no_map(evidence, reason):
    face = replace(evidence.detection.faces[0], reasons=(reason,))
    assert face.heatmap is not None
    changed = with_detection(evidence, faces=(face,), error_rates=(), verdict=Verdict.INCONCLUSIVE, reasons=(reason,))
    report = report_on(changed)
    assert report.headline.startswith("Could not be checked: ")
    assert not NUMBERS.search("\n".join(words_of(report))) and len(report.sections[1].pictures) == 1
    assert NUMBERS.search("\n".join(words_of(report_on(evidence))))
    assert not maps_in(build_bundle(changed)) and maps_in(build_bundle(evidence))


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.jpeg))).astype(int)


def test_heat_lies_over_the_crop(evidence):
    """The hot quarter of a map colours that quarter of the crop and nothing else, over the picture's edge too."""
    image = np.full((400, 600, 3), 90, np.uint8)
    heatmap = np.full((2, 2), 0.5, np.float32)
    heatmap[0, 0] = 1.0
    face = Face((150, 150, 100, 100), None, 0.9, (100, 100, 200, 200), 1.0, 0.7, heatmap=heatmap)
    over_the_edge = replace(face, crop_box=(-100, -100, 200, 200))
    for shown, is_inside in ((face, True), (over_the_edge, False)):
        detection = replace(evidence.detection, faces=(shown,), image=image, width_px=600, height_px=400)
        plain, heated = report_on(replace(evidence, detection=detection)).sections[1].pictures
        rows, columns = np.nonzero(np.abs(pixels(heated) - pixels(plain)).max(axis=-1) > 60)
        if is_inside:  # heat fades into the next quarter
            assert columns.min() >= 95 and columns.max() < 240 and rows.min() >= 95 and rows.max() < 240
        assert (len(rows) > 5000) == is_inside


def explanation(method, sentence, *, heatmap=None, check=None):
    return CheckedExplanation(method, heatmap, (), sentence, 192, check)


def test_further_maps_and_sections_appear(evidence):
    lime = explanation("lime", "Mostly the mouth indicates a fake.", heatmap=np.full((7, 7), 0.9, np.float32))
    section = Section("Saved again", paragraphs=("No change.",), entries=(Entry("JPEG 50", ("65%",)),))
    report = report_on(replace(evidence, explanations=(lime,), sections=(section,)))
    caption = "LIME, face 1. Mostly the mouth indicates a fake. Not tested: we do not know"
    assert caption in "".join(words_of(report))
    assert len(report.sections[1].pictures) == 3
    assert words_in_html(render_html(report)).count("Saved again") == 1


def test_robustness_and_checks_of_explanations_are_reported(evidence):
    check = DeletionCheck((0.0, 0.5), (1.234, -4.567), (1.234, 0.891), area=-1.6, random_area=1.0, matters=False)
    heatmap = np.full((7, 7), 0.9, np.float32)
    explanations = (
        explanation("class_map", "Mostly the mouth.", heatmap=heatmap, check=check),
        explanation("lime", "Mostly the nose.", heatmap=heatmap),
        explanation("occlusion", "Mostly the chin."),
    )
    robustness = RobustnessResult(
        (DegradedScore("stored", 1.0, 0.7, Verdict.INCONCLUSIVE), DegradedScore("half", 3, 0.96, Verdict.DEEPFAKE))
    )
    report = report_on(replace(evidence, explanations=explanations, robustness=robustness))
    text = "\n".join(words_of(report))
    for words in (
        *("Class activation map, face 1", "Mostly the mouth.", check.sentence, "50% blurred: logit -4.57"),
        *("Areas without evidence have no colour. Mostly the mouth. Tested: the score does not depend on these areas",),
        *("on average: 0.89", "LIME, face 1. Mostly the nose.", "We did not test", "occlusion, face 1"),
        *(robustness_sentence(robustness), "96.0%, deepfake (logit 3.0000)"),
    ):
        assert words in text
    assert len(report.sections[1].pictures) == 3 and "Half size" in words_in_html(render_html(report))
    assert "on average" not in "".join(words_of(report_on(evidence)))


def test_an_excluded_face_has_a_reason(evidence):
    face = replace(evidence.detection.faces[0], reasons=(Reason.TOO_DARK,))
    assert "Could not be checked: The face is too dark" in "".join(
        words_of(report_on(with_detection(evidence, faces=(face,))))
    )


def test_hostile_names_and_texts_do_no_harm(evidence):
    entry = Entry(HOSTILE, (HOSTILE,))
    report = report_on(replace(evidence, filename=HOSTILE, sections=(Section(HOSTILE, entries=(entry,)),)))
    page = render_html(report)
    assert "<script" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    assert "\u202e" not in dict(report.sections[1].facts)["Name"]
    text = words_in_pdf(render_pdf(report))
    assert r"“\u4f60\u597d”" in text and r"\U0001f642" in text and "<script>alert(1)</script>" in text


def test_the_page_needs_nothing_else(evidence):
    page = render_html(report_on(evidence))
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s>)]*)', page)
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    with Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))) as image:
        assert image.size == (512, 512)


@pytest.mark.parametrize(
    ("checked_at", "stated"), [(None, b"D:19800101"), (datetime(2026, 11, 20, 8, 39, tzinfo=UTC), b"D:20261120")]
)
def test_equal_evidence_makes_equal_bytes(checked_at, stated, evidence):
    first, second = (report_on(replace(evidence, checked_at=checked_at)) for _ in range(2))
    assert render_pdf(first) == render_pdf(second) and render_html(first) == render_html(second)
    assert stated in render_pdf(first)
