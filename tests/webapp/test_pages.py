import html
import io
import json
import re
import struct
import sys
import threading
import zlib
from dataclasses import replace

import numpy as np
import pytest
from bundles import members
from certificates import sign
from PIL import Image, PngImagePlugin
from werkzeug.datastructures import FileStorage

import detector
from detector.evidence import explanations, run_deletion_check
from detector.evidence.explanation_checks import DELETION_SHARES
from detector.models.reference_scores import ReferenceScores
from detector.reports import verify_bundle
from detector.reports.phrases import KNOWN_PHRASE
from detector.results import HISTOGRAM_BIN_EDGES
from detector.text import format_probability
from webapp import analyses, evidence, uploads
from webapp.drawings import histogram_position
from webapp.headers import DEVICES, SECURITY_HEADERS
from webapp.models import Analysis, Upload, db

pytestmark = pytest.mark.slow


def saved(picture, format="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png_of_zeros(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + width // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def problem(response):
    return re.search(r'id="upload-error"[^>]*>(.*?)</p>', response.text, re.S)[1]


def kept_rows(app):
    with app.app_context():
        return db.session.query(Analysis).count(), db.session.query(Upload).count()


# The way through: form, result, deletion


def test_the_start_page_offers_a_form_and_samples(client):
    page = client.get("/").text
    assert 'type="file"' in page and 'action="/analyses"' in page and 'enctype="multipart/form-data"' in page
    assert all(f'action="/samples/{name}"' in page for name in ("real", "fake", "missed", "video", "voice"))
    assert problem(client.get("/")) == "" and "Your latest results" not in page


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("real", "This is a Real Image!"),
        ("deepfake", "This is a Deepfake Image!"),
        ("inconclusive", "Inconclusive"),
    ],
)
def test_an_upload_leads_to_its_verdict(client, force_verdict, face_jpeg, real_detector, verdict, headline):
    force_verdict(verdict)
    response = client.upload(face_jpeg, "me.jpg")
    assert response.status_code == 303 and re.fullmatch(r"/analyses/[\w-]{22}", response.location)
    page = client.get(response.location).text
    face = real_detector.detect(face_jpeg).faces[0]
    assert re.search("<h1>(.*?)</h1>", page)[1] == headline
    assert format_probability(face.probability) in page.partition('id="score"')[2]
    x, y, w, h = face.box
    assert f'class="box" x="{x}" y="{y}" width="{w}" height="{h}"' in page
    assert f'href="{response.location}/files/heatmap-0.png"' in page and 'viewBox="0 0 512 512"' in page
    assert ("lies between the two thresholds" in page) is (verdict == "inconclusive")
    assert "me.jpg" in page and re.search(r"Processing time</dt><dd>\d+ ms|Processing time</dt><dd>\d\.\d s", page)
    assert any(words in page for words in ("has not been measured", "on the collections", "had not seen"))


# What is said beside a verdict


@pytest.fixture
def held_out(monkeypatch, real_detector):
    """Give the detector a table of 300 reals, of which 30 score 1, and 200 fakes, of which 50 score 0."""
    scores = np.repeat([0.0, 1.0, 0.0, 1.0], [270, 30, 50, 150])
    table = ReferenceScores.from_scores(
        labels=np.repeat([0, 1], [300, 200]),
        probabilities=scores,
        face_px=np.full(500, 120),
        groups=np.arange(500),
        split="val",
        model_sha256=real_detector.pictures.engine.model_sha256,
    )
    monkeypatch.setattr(real_detector.pictures, "reference_scores", table)


def words_of(page):
    return re.sub(r"\s+", " ", page.replace("\N{NO-BREAK SPACE}", " "))


UNDER_HEADLINE = {
    "deepfake": "10 of 100 real pictures looked this fake, measured only on the collections it was trained on.",
    "real": "25 of 100 deepfakes looked this real, measured only on the collections it was trained on.",
    "inconclusive": "10 of 100 real pictures looked this fake and 25 of 100 deepfakes looked this real, "
    "measured only on the collections it was trained on.",
}
REALS = f"In our test, 100 (70 to 140) in 1,000 real pictures scored this high. Measured on 300 {KNOWN_PHRASE}."
FAKES = f"In our test, 250 (195 to 315) in 1,000 deepfakes scored this low. Measured on 200 {KNOWN_PHRASE}."


@pytest.mark.parametrize(
    ("verdict", "said", "unsaid"),
    [("deepfake", [REALS], [FAKES]), ("real", [FAKES], [REALS]), ("inconclusive", [REALS, FAKES], [])],
)
def test_a_verdict_says_how_easily_it_is_wrong(client, force_verdict, held_out, face_jpeg, verdict, said, unsaid):
    force_verdict(verdict)
    page = words_of(client.get(client.upload(face_jpeg).location).text)
    assert all(f"<p>{sentence}</p>" in page for sentence in said)
    assert not any(f"<p>{sentence}</p>" in page for sentence in unsaid)
    assert f'</h1> <p class="verdict-error">{UNDER_HEADLINE[verdict]}</p>' in page
    assert "a face of" not in page and "Other collections were not measured" in page


def test_rates_of_kinds_left_out_are_said_to_be_such(client, force_verdict, real_detector, held_out, face_jpeg):
    table = replace(real_detector.pictures.reference_scores, unseen=True)
    real_detector.pictures.reference_scores = table
    force_verdict("real")
    page = words_of(client.get(client.upload(face_jpeg).location).text)
    sentence = (
        "In our test, 250 (195 to 315) in 1,000 deepfakes of kinds it had not seen scored this low. Measured on 200."
    )
    assert '<p class="verdict-error">On kinds of fakes it had not seen, 25 of 100 deepfakes looked this real.<' in page
    assert sentence in page and "had not learned from its kind or its source" in page
    assert KNOWN_PHRASE not in page.partition("How often is it wrong?")[0]


def test_a_picture_shows_where_the_score_lies_among_held_out_ones(
    client, force_verdict, held_out, face_jpeg, real_detector
):
    force_verdict("inconclusive")
    page = client.get(client.upload(face_jpeg).location).text
    drawing = re.search(r'<svg class="scale histograms".*?</ul>', page, re.S)[0]
    label = words_of(re.search('aria-label="(.*?)"', drawing)[1])
    assert REALS in label and FAKES in label
    bars = {
        kind: re.findall(
            r'<rect (class="counted" )?x="([\d.]+)"', re.search(f'<svg class="{kind}".*?</svg>', drawing, re.S)[0]
        )
        for kind in ("real", "fake")
    }
    steps = len(HISTOGRAM_BIN_EDGES) - 1
    assert bars["real"] == [("", "0"), ("", f"{steps - 1}"), ('class="counted" ', f"{steps - 1}")]
    assert bars["fake"] == [("", "0"), ('class="counted" ', "0"), ("", f"{steps - 1}")]
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"/>', drawing)]
    assert heights[0] == 46 and heights[1] == pytest.approx(46 * 0.1 / 0.9, abs=0.01)  # 270 and 30 of 300
    place = histogram_position(real_detector.detect(face_jpeg).probability)
    assert f'class="marker" x="{round(100 * place / steps, 2)}%"' in drawing
    assert "Real pictures this high or higher: 10.0%" in drawing and "Deepfakes this low or lower: 25.0%" in drawing


@pytest.mark.parametrize("kept", [{}, {"error_rates": []}], ids=["of an earlier version", "not measured"])
def test_a_result_without_error_rates_is_still_shown(client, app, held_out, face_jpeg, kept):
    location = client.upload(face_jpeg).location
    with app.app_context():
        analysis = db.session.query(Analysis).one()
        analysis.result = {name: value for name, value in analysis.result.items() if name != "error_rates"} | kept
        db.session.commit()
    page = client.get(location)
    assert page.status_code == 200 and "histograms" not in page.text and "of this size" not in page.text
    assert any(words in page.text for words in ("has not been measured", "on the collections", "had not seen"))


@pytest.mark.parametrize(("verdict", "said"), [("deepfake", True), ("real", False)])
def test_with_reference_scores_of_one_class_only_that_rate_is_shown(
    client, force_verdict, real_detector, held_out, face_jpeg, verdict, said
):
    sizes = tuple(size for size in real_detector.pictures.reference_scores.sizes if size.kind == "real")
    real_detector.pictures.reference_scores = replace(real_detector.pictures.reference_scores, sizes=sizes)
    force_verdict(verdict)
    page = words_of(client.get(client.upload(face_jpeg).location).text)
    assert (REALS in page) is ("The range in brackets" in page) is said and "histograms" not in page


@pytest.mark.parametrize(
    ("address", "kind", "magic"),
    [
        ("/files/crop.png", "image/png", b"\x89PNG"),
        ("/files/picture.jpg", "image/jpeg", b"\xff\xd8\xff"),
        ("/files/thumbnail.jpg", "image/jpeg", b"\xff\xd8\xff"),
        ("/files/heatmap-0.png", "image/png", b"\x89PNG"),
    ],
)
def test_derived_pictures_are_private_and_of_the_right_kind(client, face_jpeg, address, kind, magic):
    response = client.get(client.upload(face_jpeg).location + address)
    assert (response.status_code, response.mimetype) == (200, kind) and response.data.startswith(magic)
    assert "private" in response.headers["Cache-Control"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_picture_is_upright(client, astronaut):
    turned = astronaut.crop((0, 0, 512, 300)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    location = client.upload(saved(turned, exif=exif)).location
    assert 'viewBox="0 0 512 300"' in client.get(location).text
    assert Image.open(io.BytesIO(client.get(f"{location}/files/picture.jpg").data)).size == (512, 300)


def test_several_faces_are_numbered(client, astronaut):
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.resize((400, 400)), (560, 60))
    page = client.get(client.upload(saved(two)).location).text
    picture = re.search(r'<svg class="picture".*?</svg>', page, re.S)[0]
    assert picture.count('class="box"') == 2 and picture.count("/files/heatmap-") == 2
    assert "2 faces were found" in page and "most suspicious face, number 1" in page
    assert sorted(re.findall(">([^<]*)</text>", picture)) == ["1", "2"]
    assert len(re.findall("<li>(Leans real|Inconclusive|Leans fake)</li>", page)) == 2


def test_a_picture_without_a_face_is_inconclusive_and_says_so(client):
    page = client.get(client.upload(saved(Image.new("RGB", (300, 200), "teal"))).location).text
    assert "<h1>Could not be checked: no face found</h1>" in page and "No face was found" in page
    assert 'class="box"' not in page and "/files/heatmap-" not in page
    assert 'id="explanation"' not in page and 'id="robustness"' not in page and 'id="provenance"' in page


@pytest.mark.parametrize(
    ("name", "origin"),
    [("real", "A real photograph"), ("fake", "trained on fakes of this kind"), ("missed", "enlarged eyes")],
)
def test_a_sample_is_labelled_as_what_it_is(client, name, origin):
    response = client.submit(f"/samples/{name}")
    page = client.get(response.location).text
    assert response.status_code == 303 and origin in page and "we know the truth" in page
    assert 'class="box"' in page


def test_the_missed_sample_is_not_called_a_deepfake(client):
    """Its card says so; a better network needs another sample."""
    page = client.get(client.submit("/samples/missed").location).text
    assert "This is a Deepfake Image!" not in page and "Could not be checked" not in page


def test_the_fake_sample_differs_only_around_the_face(client, astronaut):
    location = client.submit("/samples/fake").location
    shown = np.asarray(Image.open(io.BytesIO(client.get(f"{location}/files/picture.jpg").data)), int)
    difference = np.abs(shown - np.asarray(astronaut, int)).mean(axis=2)
    assert difference[90:150, 190:260].mean() > 3 * difference[300:].mean()


def test_the_progress_of_an_explanation_s_check_is_reported(client, monkeypatch, lime_runs, face_jpeg):
    location = client.upload(face_jpeg).location
    seen = []
    store = analyses.set_check_progress

    def store_and_read(analysis_id, progress):
        store(analysis_id, progress)
        seen.append((progress, client.get(f"{location}/state").json["check_progress"]))

    monkeypatch.setattr(analyses, "set_check_progress", store_and_read)
    monkeypatch.setattr(evidence, "PROGRESS_EVERY_S", 0.0)
    assert client.submit(f"{location}/explanation-checks").status_code == 303
    stored, reported = zip(*seen, strict=True)
    assert stored == reported == tuple(sorted(stored)) and stored[-1] == 1 and len(set(stored)) > 5


def test_uploads_come_between_the_batches_of_a_check_and_entries_added_meanwhile_stay(
    app, client, monkeypatch, lime_runs, face_jpeg
):
    location = client.upload(face_jpeg).location
    meanwhile = []

    def use_the_page():
        meanwhile.append(app.test_client().get("/").status_code)
        meanwhile.append(client.upload(face_jpeg, "second.jpg").location)
        meanwhile.append(client.submit(f"{location}/robustness").status_code)

    def use_it_once(*_):
        if not meanwhile:
            visit = threading.Thread(target=use_the_page)
            visit.start()
            visit.join(30)
            assert not visit.is_alive()

    monkeypatch.setattr(analyses, "set_check_progress", use_it_once)
    monkeypatch.setattr(evidence, "PROGRESS_EVERY_S", 0.0)
    assert client.submit(f"{location}/explanation-checks").status_code == 303
    assert len(meanwhile) == 3 and meanwhile[2] == 303
    with app.app_context():
        kept = db.session.get(Analysis, location.rpartition("/")[2]).record
    assert kept["robustness"] and kept["explanations"][0]["check"]


def test_tabs_are_named_by_file_and_the_start_page_can_be_shared(client, face_jpeg):
    result = client.get(client.upload(face_jpeg, "mine.jpg").location).text
    assert re.search(r"<title>mine\.jpg: .+ · Deepfake Detector</title>", result) and "og:" not in result
    start = client.get("/").text
    image = re.search(r'property="og:image" content="http://localhost(/[^"]+)"', start)[1]
    icons = re.findall(r'<link rel="(?:icon|apple-touch-icon)" href="([^"]+)"', start)
    assert len(icons) == 3 and start.count('name="theme-color"') == 2
    for address in (image, *icons, "/favicon.ico"):
        answer = client.get(address)
        assert answer.status_code == 200 and answer.mimetype.startswith("image/"), address


def test_the_start_page_lists_the_visitors_own_results(client, app, face_jpeg):
    location = client.upload(face_jpeg, "mine.jpg").location
    assert location in client.get("/").text and "mine.jpg" in client.get("/").text
    assert "mine.jpg" not in app.test_client().get("/").text


def test_a_stranger_sees_and_deletes_nothing(client, app, face_jpeg):
    location = client.upload(face_jpeg).location
    stranger = app.test_client()
    stranger.upload(face_jpeg)
    unknown = stranger.get("/analyses/nosuchresultanywhere00")
    for address in (
        "",
        "/files/picture.jpg",
        "/files/thumbnail.jpg",
        "/files/heatmap-0.png",
        "/files/crop.png",
        "/files/lime.png",
        "/evidence.zip",
    ):
        refused = stranger.get(location + address)
        assert (refused.status_code, refused.text) == (404, unknown.text)
    for action in ("explanation-checks", "robustness", "delete"):
        assert stranger.submit(f"{location}/{action}").status_code == 404
    assert client.get(location).status_code == 200


def test_deleting_takes_the_result_and_its_files(client, app, face_jpeg, stored_files):
    location = client.upload(face_jpeg).location
    response = client.submit(f"{location}/delete")
    assert (response.status_code, response.location) == (303, "/")
    assert "have been deleted" in client.get("/").text
    assert [client.get(location + rest).status_code for rest in ("", "/files/picture.jpg")] == [404, 404]
    assert client.submit(f"{location}/delete").status_code == 404
    assert kept_rows(app) == (0, 0) and stored_files() == []


# The evidence


@pytest.fixture
def lime_runs(monkeypatch):
    """Let LIME and the deletion check score a few faces instead of 700; a list that grows with each run of LIME."""
    monkeypatch.setattr("detector.evidence.explanations.LIME_SAMPLES", 8)
    monkeypatch.setattr(sys.modules[run_deletion_check.__module__], "RANDOM_DELETIONS", 1)
    # Of the progress, which is counted over all faces.
    monkeypatch.setattr(detector.evidence, "LIME_SAMPLES", 8)
    monkeypatch.setattr(detector.evidence, "DELETION_CHECK_FACES", 1 + 2 * len(DELETION_SHARES))
    runs = []
    explain = explanations.EXPLANATION_METHODS["lime"]
    monkeypatch.setitem(explanations.EXPLANATION_METHODS, "lime", lambda *inputs: runs.append(1) or explain(*inputs))
    return runs


@pytest.fixture
def robustness_runs(monkeypatch):
    """Return a list that grows with each run of the robustness test."""
    runs = []
    measure = detector.evidence.measure_face_robustness
    monkeypatch.setattr(
        detector.evidence, "measure_face_robustness", lambda *inputs: runs.append(1) or measure(*inputs)
    )
    return runs


def section(page, name):
    return words_of(re.search(rf'<section aria-labelledby="{name}".*?</section>', page, re.S)[0])


def kept_record(app):
    with app.app_context():
        return db.session.query(Analysis).one().record


def change_result(app, change):
    """Replace the stored result of the only analysis by `change(result)`."""
    with app.app_context():
        analysis = db.session.query(Analysis).one()
        analysis.result = change(analysis.result)
        db.session.commit()


def test_a_page_shows_the_evidence(client, app, face_jpeg):
    location = client.upload(face_jpeg).location
    page, record = client.get(location).text, kept_record(app)
    explanation = section(page, "explanation")
    (kept,) = record["explanations"]
    assert kept["sentence"] in explanation and f'href="{location}/files/crop.png"' in explanation
    assert kept["regions"] and explanation.count('class="box"') == len(kept["regions"])
    x, y, w, h = kept["regions"][0]["box"]
    assert f'class="box" x="{x}" y="{y}" width="{w}" height="{h}"' in explanation
    assert "%" not in re.sub(r'="[^"]*"', "", explanation) and "Not tested:" in explanation
    assert f'action="{location}/explanation-checks"' in explanation and "/lime" not in explanation
    provenance = section(page, "provenance")
    finding = record["provenance"]["findings"][0]
    assert "Not used for the score" in provenance and record["provenance"]["sha256"] in provenance
    assert all(html.escape(finding[words]) in provenance for words in ("fact", "can_mean", "cannot_mean"))


def test_robustness_is_tested_once_and_only_on_request(client, app, face_jpeg, robustness_runs):
    location = client.upload(face_jpeg).location
    before = section(client.get(location).text, "robustness")
    assert robustness_runs == [] and kept_record(app)["robustness"] is None
    assert f'action="{location}/robustness"' in before and "<circle" not in before
    for _ in range(2):
        response = client.submit(f"{location}/robustness")
        assert (response.status_code, response.location) == (303, f"{location}#robustness")
    assert len(robustness_runs) == 1
    kept, after = kept_record(app)["robustness"], section(client.get(location).text, "robustness")
    assert html.escape(kept["sentence"]) in after and after.count("<circle") == 10 and "<form" not in after
    assert f'cx="{round(100 * kept["scores"][3]["probability"], 2)}%"' in after and "Not used for the verdict" in after


def test_the_undamaged_picture_comes_first_and_has_the_verdict_of_the_upload(client, app, face_jpeg):
    client.submit(f"{client.upload(face_jpeg).location}/robustness")
    record = kept_record(app)
    stored = record["robustness"]["scores"][0]
    assert stored["logit"] == pytest.approx(record["logit"], abs=1e-4) and stored["verdict"] == record["verdict"]


def test_only_the_most_suspicious_face_is_degraded(client, app, astronaut, real_detector, monkeypatch):
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.resize((400, 400)), (560, 60))
    location, batches = client.upload(saved(two, "PNG")).location, []
    run = real_detector.pictures.engine.run
    monkeypatch.setattr(real_detector.pictures.engine, "run", lambda crops: batches.append(len(crops)) or run(crops))
    client.submit(f"{location}/robustness")
    scores = kept_record(app)["robustness"]["scores"]
    assert len(scores) == 10 and sum(batches) <= 10
    assert scores[0]["logit"] == pytest.approx(kept_record(app)["faces"][0]["logit"], abs=1e-4)


@pytest.mark.parametrize("side_px", [None, 90], ids=["no face", "small face"])
def test_without_a_usable_face_no_robustness_test_is_offered(client, app, astronaut, robustness_runs, side_px):
    picture = Image.new("RGB", (300, 200), "teal")
    if side_px:
        picture.paste(astronaut.resize((side_px, side_px)), (100, 50))
    location = client.upload(saved(picture, "PNG")).location
    assert 'id="robustness"' not in client.get(location).text
    assert client.submit(f"{location}/robustness").status_code == 303
    assert robustness_runs == [] and kept_record(app)["robustness"] is None


@pytest.mark.parametrize("test", ["explanation-checks", "robustness"])
def test_a_test_of_a_deleted_file_is_not_found(client, app, face_jpeg, test):
    location = client.upload(face_jpeg).location
    with app.app_context():
        uploads.delete_upload(db.session.query(Upload).one().sha256)
    assert client.submit(f"{location}/{test}").status_code == 404


def test_what_a_generator_wrote_is_shown_and_shown_harmless(client, astronaut):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "an astronaut <b>\nSteps: 30, Sampler: Euler a, CFG scale: 7, Seed: 1")
    page = client.get(client.upload(saved(astronaut, "PNG", pnginfo=notes)).location).text
    provenance = section(page, "provenance")
    assert "settings of an image generator" in provenance and "an astronaut &lt;b&gt; Steps: 30" in provenance


@pytest.mark.parametrize(("changed", "state"), [(False, "Intact"), (True, "Broken")])
def test_integrity_and_trust_are_two_facts(client, astronaut, changed, state):
    signed = bytearray(sign(saved(astronaut), "image/jpeg")[0])
    if changed:
        signed[-200] ^= 1  # of the last pixels
    page = client.get(client.upload(bytes(signed)).location)
    assert page.status_code == 200
    provenance = section(page.text, "provenance")
    assert re.findall('<p class="state [a-z]+">(.*?)</p>', provenance) == [state, "Not checked"]


def test_an_excluded_face_says_why(client, astronaut):
    two = Image.new("RGB", (1024, 512))
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.resize((90, 90)), (700, 200))
    faces = section(client.get(client.upload(saved(two, "PNG")).location).text, "faces")
    assert faces.count("Could not be checked.") == 1 and "The face is too small" in faces


def test_an_explanation_is_checked_once(client, app, face_jpeg, lime_runs, stored_files):
    location = client.upload(face_jpeg).location
    for _ in range(2):
        response = client.submit(f"{location}/explanation-checks")
        assert (response.status_code, response.location) == (303, f"{location}#explanation")
    assert len(lime_runs) == 1
    explanation = section(client.get(location).text, "explanation")
    class_map, lime = kept_record(app)["explanations"]
    for sentence in (
        class_map["sentence"],
        class_map["check"]["sentence"],
        lime["sentence"],
        lime["check"]["sentence"],
    ):
        assert sentence in explanation
    assert explanation.count("<polyline") == 4 and "/explanation-checks" not in explanation
    assert client.get(f"{location}/files/lime.png").data.startswith(b"\x89PNG")
    client.submit(f"{location}/delete")
    assert stored_files() == []


TESTS = [evidence.run_explanation_checks, evidence.run_robustness_test]


@pytest.mark.parametrize("run", TESTS)
def test_simultaneous_requests_do_the_work_once(client, app, face_jpeg, lime_runs, robustness_runs, run):
    client.upload(face_jpeg)
    with app.app_context():
        analysis_id = db.session.query(Analysis.id).scalar()

    def request_test():
        with app.app_context():
            run(db.session.get_one(Analysis, analysis_id))

    requests = [threading.Thread(target=request_test) for _ in range(3)]
    for thread in requests:
        thread.start()
    for thread in requests:
        thread.join()
    assert len(lime_runs) + len(robustness_runs) == 1


@pytest.mark.parametrize("run", TESTS)
def test_a_deleted_picture_is_not_tested(client, app, face_jpeg, lime_runs, robustness_runs, stored_files, run):
    location = client.upload(face_jpeg).location
    with app.app_context():
        analysis = db.session.query(Analysis).one()
        client.submit(f"{location}/delete")
        run(analysis)
    assert lime_runs == robustness_runs == [] and stored_files() == []


@pytest.mark.parametrize("matters", [True, False])
def test_a_page_says_whether_a_map_matters(client, app, face_jpeg, lime_runs, matters):
    location = client.upload(face_jpeg).location
    client.submit(f"{location}/explanation-checks")

    def set_matters(result):
        class_map, lime = result["explanations"]
        return {**result, "explanations": [{**class_map, "check": {**class_map["check"], "matters": matters}}, lime]}

    change_result(app, set_matters)
    badges = re.findall('<span class="badge (?:matters|idle)">(.*?)</span>', client.get(location).text)
    assert badges[0] == ("The score depends on it" if matters else "This map explains little")


@pytest.mark.parametrize("is_checked", [False, True], ids=["", "explanation checked"])
@pytest.mark.parametrize("is_tested", [False, True], ids=["", "robustness tested"])
def test_the_bundle_of_a_page_verifies(client, app, face_jpeg, lime_runs, real_detector, is_checked, is_tested):
    location = client.upload(face_jpeg, "me.jpg").location
    if is_checked:
        client.submit(f"{location}/explanation-checks")
    if is_tested:
        client.submit(f"{location}/robustness")
    response = client.get(f"{location}/evidence.zip")
    assert response.mimetype == "application/zip" and "private" in response.headers["Cache-Control"]
    assert re.fullmatch(r"attachment; filename=evidence-[0-9a-f]{8}\.zip", response.headers["Content-Disposition"])
    assert verify_bundle(response.data, real_detector).differences == ()
    files, kept = members(response.data), kept_record(app)
    bundled, report = json.loads(files["detection.json"]), html.unescape(files["report.html"].decode())
    assert bundled["detection"]["logit"] == kept["logit"]
    assert ("robustness_scores" in bundled) is is_tested
    if is_tested:
        assert bundled["robustness_scores"] == kept["robustness"]["scores"]
        assert kept["robustness"]["sentence"] in report
    assert all(explanation["sentence"] in report for explanation in kept["explanations"])
    checks = [explanation["check"] for explanation in kept["explanations"] if explanation["check"]]
    assert len(checks) == 2 * is_checked and all(check["sentence"] in report for check in checks)
    assert (files["original.jpg"], "maps/02-face-1-lime.png" in files) == (face_jpeg, is_checked)
    assert "original.jpg" not in members(client.get(f"{location}/evidence.zip?original=no").data)


def test_a_bundle_of_a_picture_without_a_face_verifies(client, real_detector):
    location = client.upload(saved(Image.new("RGB", (300, 200), "teal"), "PNG")).location
    assert verify_bundle(client.get(f"{location}/evidence.zip").data, real_detector).differences == ()


def test_a_picture_analysed_by_another_model_gets_no_further_evidence(client, app, face_jpeg):
    location = client.upload(face_jpeg).location
    change_result(app, lambda result: {**result, "model_sha256": "0" * 64})
    assert client.get(location).status_code == 200
    responses = [client.submit(f"{location}/{test}") for test in ("explanation-checks", "robustness")]
    for response in (client.get(f"{location}/evidence.zip"), *responses):
        assert response.status_code == 400 and "checked by an earlier model" in problem(response)


def test_a_result_of_the_first_versions_is_still_shown(client, app, face_jpeg):
    def strip(result):
        new = ("record_version", "explanations", "robustness", "provenance", "heatmaps")
        faces = [{name: face[name] for name in face if name != "reasons"} for face in result["faces"]]
        return {**{name: value for name, value in result.items() if name not in new}, "faces": faces}

    location = client.upload(face_jpeg).location
    change_result(app, strip)
    page = client.get(location)
    assert page.status_code == 200 and 'class="box"' in page.text
    assert not re.search('id="(explanation|robustness|provenance|bundle)"', page.text)
    assert client.get(f"{location}/evidence.zip").status_code == 404
    for test in ("explanation-checks", "robustness"):
        assert client.submit(f"{location}/{test}").status_code == 303
    assert "explanations" not in kept_record(app) and "robustness" not in kept_record(app)


def test_displaying_pages_does_no_work(client, app, face_jpeg, monkeypatch):
    location = client.upload(face_jpeg).location
    monkeypatch.setitem(app.extensions, "detector", None)
    for address in (
        "/",
        "/performance",
        "/healthz",
        location,
        f"{location}/files/picture.jpg",
        f"{location}/files/heatmap-0.png",
    ):
        assert client.get(address).status_code == 200


# What goes wrong, each with a sentence


HTML = b"<!doctype html><html><script>alert(1)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><circle r="9"/></svg>'


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("empty.jpg", b"", 400, "empty"),
        ("notes.jpg", b"just some words", 415, "plain text"),
        ("page.jpg", HTML, 415, "an HTML page"),
        ("drawing.png", SVG, 415, "an SVG drawing"),
        ("cut.jpg", "truncated", 400, "cut off"),
        ("wrong-length.png", "wrong length", 400, "cut off"),
        ("dot.png", saved(Image.new("RGB", (1, 1)), "PNG"), 400, "1 x 1 pixels"),
        ("bomb.png", png_of_zeros(12_000, 9_000), 413, "108,000,000 in all"),
        ("large.jpg", b"\xff\xd8\xff" + bytes(2_000_001), 413, "at most 2 MB"),
        ("huge.jpg", b"\xff\xd8\xff" + bytes(9_000_000), 413, "at most 2 MB"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_an_unusable_file_gets_a_sentence(
    make_app, stored_files, face_jpeg, astronaut, caplog, name, data, status, words
):
    app = make_app(MAX_UPLOAD_MB=2)
    if data == "truncated":
        data = face_jpeg[: len(face_jpeg) // 3]
    elif data == "wrong length":
        png = saved(astronaut, "PNG")
        at = png.index(b"IDAT") - 4
        data = png[:at] + struct.pack(">I", 2**31 - 1) + png[at + 4 :]
    response = app.test_client().upload(data, name)
    assert response.status_code == status and words in problem(response), problem(response)
    assert 'type="file"' in response.text and "Traceback" not in response.text
    assert kept_rows(app) == (0, 0) and stored_files() == [] and caplog.text == ""


@pytest.mark.parametrize(
    "convert",
    [
        lambda face: saved(face.convert("L")),
        lambda face: saved(face.convert("CMYK")),
        lambda face: saved(face.convert("P"), "PNG"),
        lambda face: saved(face.convert("RGBA"), "PNG"),
        lambda face: saved(Image.fromarray(np.asarray(face.convert("L"), np.uint16) * 257), "PNG"),
        lambda face: saved(face, "TIFF"),
        lambda face: saved(face, "BMP"),
        lambda face: saved(face, "WEBP"),
        lambda face: saved(face, "GIF", save_all=True, append_images=[Image.new("RGB", face.size)]),
    ],
    ids=["grey", "CMYK", "palette", "alpha", "16 bits", "TIFF", "BMP", "WebP", "animated GIF"],
)
def test_every_kind_of_picture_is_analysed_whatever_its_name(client, astronaut, convert):
    response = client.upload(convert(astronaut), "wrong.extension")
    assert response.status_code == 303
    assert 'class="box"' in client.get(response.location).text


def test_a_hostile_file_name_is_only_shown_and_shown_harmless(client, face_jpeg, stored_files):
    # quotes and line ends cannot stand in a multipart header as they are, everything else can
    page = client.get(client.upload(face_jpeg, "../../<b onload=x>\u202e\x07.jpg").location).text
    assert "&lt;b onload=x&gt;.jpg" in page and "<b onload" not in page
    assert "\u202e" not in page and "\x07" not in page
    assert all(re.fullmatch(r"(uploads/[0-9a-f]{64}|analyses/[\w-]{22}/[\w.-]+)", name) for name in stored_files())


@pytest.mark.parametrize("fields", [{}, {"file": FileStorage(io.BytesIO(), "")}, {"file": "not a file"}])
def test_a_form_without_a_file_says_what_to_do(client, fields):
    response = client.submit("/analyses", **fields)
    assert (response.status_code, problem(response)) == (400, "Choose a file first.")


@pytest.mark.parametrize("token", [None, "", "made-up", "of somebody else"])
@pytest.mark.parametrize(
    "address",
    ["/analyses", "/samples/real", "/analyses/x/delete", "/analyses/x/explanation-checks", "/analyses/x/robustness"],
)
def test_a_form_without_a_valid_token_is_refused(client, app, token, address):
    if token == "of somebody else":
        token = re.search(r'name="csrf_token" value="([^"]+)"', app.test_client().get("/").text)[1]
    client.get("/")
    response = client.post(address, data={"csrf_token": token} if token is not None else {})
    assert response.status_code == 400 and "has expired or is from another site" in problem(response)


@pytest.mark.parametrize(
    ("method", "address", "status", "words"),
    [
        ("GET", "/nowhere", 404, "Page not found"),
        ("GET", "/analyses", 405, "only receives forms"),
        ("GET", "/samples/real", 405, "only receives forms"),
        ("GET", "/visualizations/secret.png", 404, "Page not found"),
        ("GET", "/visualizations/..%2f..%2fmodel.png", 404, "Page not found"),
        ("GET", "/static/../app.py", 404, "Page not found"),
    ],
)
def test_dead_ends_lead_back(client, method, address, status, words):
    response = client.open(address, method=method)
    assert response.status_code == status and words in response.text and 'href="/"' in response.text


def test_an_unknown_sample_does_not_exist(client):
    assert client.submit("/samples/other").status_code == 404


def test_a_missing_model_is_said_without_a_traceback(client, app, face_jpeg, monkeypatch):
    from webapp.detector_thread import DetectorThread

    monkeypatch.setattr("detector.pictures.detect.MODEL_FILES", {"onnx": "missing.onnx"})
    app.extensions["detector"] = DetectorThread()
    response = client.upload(face_jpeg)
    assert (response.status_code, problem(response)) == (503, "The model file missing.onnx is missing.")


def test_our_own_mistakes_show_no_traceback(client, monkeypatch):
    monkeypatch.setattr("webapp.pages.read_metrics", lambda folder: 1 / 0)
    response = client.get("/performance")
    assert response.status_code == 500 and "Something went wrong on the server" in response.text
    assert "ZeroDivisionError" not in response.text and "Content-Security-Policy" in response.headers


# What every page keeps to


def test_every_answer_carries_the_security_headers(client, face_jpeg):
    location = client.upload(face_jpeg).location
    for address in (
        "/",
        location,
        f"{location}/files/picture.jpg",
        "/performance",
        "/nowhere",
        "/static/style.css",
        "/healthz",
    ):
        headers = client.get(address).headers
        expected = SECURITY_HEADERS | ({"Permissions-Policy": DEVICES.format("(self)")} if address == "/" else {})
        assert {name: headers[name] for name in SECURITY_HEADERS} == expected
        assert ("no-store" in headers["Cache-Control"]) is not address.startswith("/static")
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(client, face_jpeg):
    location = client.upload(face_jpeg).location
    for address in ("/", location, "/performance", "/nowhere"):
        page = client.get(address).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", page)
        assert not re.search(r'(?:src|action)="(?:https?:)?//', page)
        for tag in re.findall(r'<[^>]*href="(?:https?:)?//[^>]*>', page):  # a person may follow it; nothing is sent
            assert re.fullmatch(r'<a href="https://[\w./]+" target="_blank" rel="noopener noreferrer">', tag)


@pytest.mark.parametrize(
    ("scheme", "setting", "secure"), [("http", "no", False), ("http", "yes", True), ("https", "no", True)]
)
def test_the_session_cookie_is_locked_down(make_app, scheme, setting, secure):
    client = make_app(COOKIE_SECURE=setting).test_client()
    cookie = client.get("/", base_url=f"{scheme}://localhost").headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert ("Secure" in cookie) is secure


def test_uploading_works_under_https(app, face_jpeg):
    client = app.test_client()
    client.environ_base.update({"wsgi.url_scheme": "https", "HTTP_REFERER": "https://localhost/"})
    assert client.upload(face_jpeg).status_code == 303


def test_health_is_cheap_and_leaves_no_cookie(client):
    response = client.get("/healthz")
    assert response.json == {"status": "ok"} and "Set-Cookie" not in response.headers


def test_two_tabs_of_a_new_browser_are_one_visitor(app, face_jpeg):
    client = app.test_client()
    page = client.get("/")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    found = []
    for _ in range(2):  # each tab sends the cookie it was given with the page
        tab = app.test_client(use_cookies=False)
        fields = {"csrf_token": token, "file": (io.BytesIO(face_jpeg), "face.jpg")}
        found.append(tab.post("/analyses", data=fields, headers={"Cookie": cookie}).location)
    assert found[0] != found[1]
    assert [client.get(address).status_code for address in found] == [200, 200]


@pytest.mark.parametrize(
    "name", ["heatmap-1.png", f"heatmap-{'9' * 3000}.png", "lime.png", "secret.png", "..%2Fx%2Fpicture.jpg", ""]
)
def test_a_file_that_does_not_exist_is_not_found(client, face_jpeg, name):
    assert client.get(f"{client.upload(face_jpeg).location}/files/{name}").status_code == 404


def test_a_stored_file_of_another_name_is_not_sent(client, app, face_jpeg, lime_runs, stored_files):
    location = client.upload(face_jpeg).location
    client.submit(f"{location}/explanation-checks")
    assert any(name.endswith("lime-heat.png") for name in stored_files())
    assert client.get(f"{location}/files/lime-heat.png").status_code == 404


def test_a_wrong_method_says_which_are_right(client):
    answer = client.put("/")
    assert answer.status_code == 405 and "GET" in answer.headers["Allow"] and "<h1>" in answer.text
