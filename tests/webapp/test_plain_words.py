"""Everything that a person reads is plain English: pages as rendered, reports, messages, help of the command line."""

import ast
import re

import pytest
from plain_words import MAX_SENTENCE_WORDS, hard_sentences, messages, offences, page_texts, reading_grade, sentences
from project import ROOT
from stored_results import explained, face, picture, rate, video, voice

from detector.cli import main
from detector.evidence import measure_face_robustness
from detector.provenance.findings import read_provenance
from detector.reports.evidence import Evidence
from detector.reports.rendering import render_html
from detector.reports.report import make_report
from detector.results import Reason, Verdict
from webapp.performance import read_metrics

MAX_GRADE = 9  # a reading age of 14
RATES = [rate("real", 0.013), rate("fake", 0.109)]
KNOWN_RATES = [rate("real", 0.013, unseen=False), rate("fake", 0.109, unseen=False)]
BETWEEN = [Reason.BETWEEN_THRESHOLDS]
SMALL_FACE = face((400, 80, 20, 20), reasons=[Reason.TOO_SMALL])
CASES = {
    **{f"{make.__name__}-{verdict}": make(verdict, reasons=BETWEEN if verdict == "inconclusive" else [], rates=rates)
       for make in (picture, voice, video) for verdict in Verdict for rates in [() if make is video else RATES]},
    **{f"{make.__name__}-known": make(reasons=BETWEEN, rates=KNOWN_RATES) for make in (picture, voice)},
    **{f"{make.__name__}-{reason}": make(reasons=[reason]) for make, reasons in (
        (picture, (Reason.TOO_BLURRED, Reason.TOO_MANY_FACES, Reason.UNSTABLE, Reason.DRAWING)),
        (voice, (Reason.SILENT, Reason.NOISY, Reason.NO_SPEECH, Reason.TOO_SHORT)),
        (video, (Reason.TOO_FEW_FRAMES,)),
    ) for reason in reasons},
    "no-face": picture(faces=[], reasons=[Reason.NO_FACE]),
    "two-faces": picture("deepfake", faces=[face((100, 80, 120, 150)), SMALL_FACE], rates=RATES),
    "video-with-sound": video("real", sound=voice("deepfake")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_result_is_plain(show, case):
    assert offences(page_texts(show(CASES[case]))) == []


@pytest.mark.parametrize("matters", [None, True, False])
def test_an_explanation_is_plain(show, matters):
    detection = picture("deepfake")
    assert offences(page_texts(show(detection, result=explained(detection, matters=matters)))) == []


def test_the_pages_of_a_real_picture_are_plain_and_easy_to_read(client, face_jpeg):
    address = client.upload(face_jpeg, "me.jpg").location
    client.submit(f"{address}/robustness")
    texts = page_texts(client.get(address).text)
    assert any("altered copies" in text or "copies of the picture" in text for text in texts)
    assert offences(texts) == []
    texts += page_texts(client.get("/").text)
    assert len([one for text in texts for one in sentences(text)]) > 60
    assert reading_grade(texts) <= MAX_GRADE


def test_the_performance_page_is_plain(client):
    texts = page_texts(client.get("/performance").text)
    assert read_metrics(ROOT / "visualizations") and len(texts) > 200
    assert offences(texts) == []
    assert reading_grade(texts) <= MAX_GRADE


@pytest.mark.parametrize("address", ["/nowhere", "/analyses", "/analyses/AAAAAAAAAAAAAAAAAAAAAA"])
def test_an_error_page_is_plain(client, address):
    assert offences(page_texts(client.get(address).text)) == []


@pytest.mark.parametrize("data", [b"", b"some text", b"%PDF-1.4", b"\xff\xd8\xff\xe0 cut off"])
def test_the_refusal_of_a_file_is_plain(client, data):
    page = client.upload(data).text
    assert re.search('id="upload-error"[^>]*>[^<]', page)
    assert offences(page_texts(page)) == []


@pytest.mark.parametrize("state", ["waiting", "running", "failed", "cancelled"])
def test_the_page_of_an_unfinished_upload_is_plain(show, state):
    page = show(voice(), state=state, progress=0.5, error="The file is empty (0 bytes).")
    assert offences(page_texts(page)) == []


@pytest.mark.slow
def test_the_report_is_plain(face_jpeg, picture_detector):

    detection = picture_detector.detect(face_jpeg)
    evidence = Evidence(
        data=face_jpeg,
        detection=detection,
        provenance=read_provenance(face_jpeg, image=detection.image),
        spec=picture_detector.engine.spec,
        robustness=measure_face_robustness(detection, picture_detector.engine),
    )
    assert offences(page_texts(render_html(make_report(evidence, version="1")))) == []


MODULES = [path for folder in ("detector", "webapp") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_are_plain(path):
    assert offences(messages(path.read_text())) == []


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_the_help_of_a_script_has_short_sentences(path):
    source = path.read_text()
    paragraphs = ast.get_docstring(ast.parse(source)).split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.startswith("    ")]
    assert hard_sentences(texts + messages(source)) == []


@pytest.mark.parametrize("command", [[], ["scan"], ["verify"]], ids=str)
def test_the_help_of_the_command_line_is_plain(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    paragraphs = re.split(r"\n\s*\n|\n(?=  \S)", capsys.readouterr().out)
    assert offences(" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.startswith("usage")) == []


@pytest.mark.parametrize("script", sorted((ROOT / "static").glob("*.js")), ids=lambda path: path.name)
def test_the_words_of_a_script_are_plain(script):
    strings = re.findall(r'"([^"\n]+)"|`([^`]+)`', script.read_text())
    assert offences(re.sub(r"\$\{.*?\}", "X", one or other) for one, other in strings) == []


LONG = " ".join(["word"] * MAX_SENTENCE_WORDS)


@pytest.mark.parametrize(
    ("html", "count"),
    [
        (f"<p>{LONG}.</p>", 0),
        (f"<p>{LONG} more.</p>", 1),
        (f"<p>{LONG} <strong>more</strong>.</p>", 1),
        (f"<p>{LONG}. More.</p><p>And more</p>", 0),
        (f'<img alt="{LONG} more">', 1),
        (f"<script>{LONG} more</script>", 0),
        (f'<p class="written">{LONG} more</p>', 0),
        ("<td>95 %</td><td>95%</td>", 1),
        ("<td>95&nbsp;%</td>", 1),
        ("<p>Undecided</p>", 1),
        ("<p>The held-out pictures</p>", 1),
    ],
)
def test_offences_are_found(html, count):
    assert len(offences(page_texts(html))) == count


def test_the_reading_grade_distinguishes_easy_from_hard():
    easy = "The cat sat on the mat. It was a warm day."
    hard = "Notwithstanding considerable methodological heterogeneity, interpretability constitutes an imperative."
    assert reading_grade([easy]) < 3 < 15 < reading_grade([hard])
