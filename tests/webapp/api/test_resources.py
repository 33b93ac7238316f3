"""The API with the real detector: what it answers is what the pages say."""

import io
import zipfile

import pytest
from clips import make_sound, make_video, pan_over
from stored_results import explained, picture, video, voice
from voices import speak
from werkzeug.datastructures import FileStorage

from detector.record import from_record, to_record
from detector.reports import verify_bundle
from webapp import analyses, jobs
from webapp.models import Analysis, Upload, db

SHA256 = "ab" * 32


def form(*files):
    return {"file": [FileStorage(io.BytesIO(data), name) for data, name in files]}


@pytest.fixture
def store(app, program):
    """Return a function that stores a detection for the program, and returns its address."""

    def store(detection, **columns):
        with app.app_context():
            types = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/wav"}
            media = detection.media
            db.session.merge(Upload(sha256=SHA256, reference_count=1, size_bytes=9, media_type=types[media]))
            analysis = Analysis(
                **{"visitor": program.visitor, "upload_sha256": SHA256, "filename": "it.file", "media": media},
                **{"verdict": str(detection.verdict), "probability": detection.probability},
                **{"threshold_real": 0.2, "threshold_fake": 0.8, "elapsed_ms": 12.0, "has_heatmaps": False},
                **{"result": to_record(detection), **columns},
            )
            db.session.add(analysis)
            db.session.commit()
            return f"/analyses/{analysis.id}"

    return store


@pytest.fixture
def sent(program, face_jpeg):
    """A picture that was sent and analysed."""
    answer = program.send(face_jpeg)
    assert answer.status_code == 201
    return answer.json["analyses"][0]


def path_of(analysis):
    return analysis["url"].removeprefix("/api/v1")


def test_a_picture_is_analysed_at_once(app, program, face_jpeg, real_detector):
    answer = program.send(face_jpeg)
    (analysis,) = answer.json["analyses"]
    assert (answer.status_code, answer.headers["Location"]) == (201, analysis["url"])
    expected = real_detector.detect(face_jpeg)
    result = analysis["result"]
    assert (analysis["state"], analysis["filename"], analysis["media_type"]) == ("done", "me.jpg", "image/jpeg")
    assert result["verdict"] == expected.verdict and result["logit"] == pytest.approx(expected.logit, abs=1e-3)
    assert [face["box"] for face in result["faces"]] == [list(face.box) for face in expected.faces]
    assert program.get(path_of(analysis)).json == analysis
    heatmap = program.get(result["faces"][0]["heatmap_url"].removeprefix("/api/v1"))
    assert heatmap.content_type == "image/png" and heatmap.data.startswith(b"\x89PNG")


@pytest.mark.parametrize("detection", [picture("deepfake"), voice("real"), video("inconclusive"), picture()])
def test_the_words_are_those_of_the_page(app, client, store, program, show, detection):
    result = program.get(store(detection)).json["result"]
    page = show(detection)
    sentences = [result["headline"], *result["reason_sentences"], *result["advice"]]
    sentences += [result["error_sentence"], result["how_often_wrong"]] if result["is_checked"] else []
    for sentence in sentences:
        assert " ".join(sentence.replace("\N{NO-BREAK SPACE}", " ").split()) in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"some text", 415, "plain text"),
        (b"\xff\xd8\xff\xe0 cut off", 400, ""),
    ],
)
def test_a_bad_file_is_refused_with_a_problem_and_stores_nothing(program, stored_files, data, status, words):
    answer = program.send(data)
    problem = answer.json
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert problem["status"] == status and words in problem["detail"] and problem["rejected"][0]["filename"] == "me.jpg"
    assert stored_files() == [] and program.get("/analyses").json["analyses"] == []


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/analyses", {}, 405),
        ("GET", "/analyses/AAAAAAAAAAAAAAAAAAAAAA", {}, 404),
        ("POST", "/analyses", {"data": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
        ("POST", "/analyses", {"data": {"other": "x"}, "headers": {"Content-Type": "multipart/form-data"}}, 422),
        ("POST", "/analyses", {"data": form(*[(b"some text", "x")] * 2)}, 415),
        ("POST", "/analyses", {"data": form(*[(b"x", "x")] * 501)}, 413),
        ("GET", "/batches/AAAAAAAAAAAAAAAAAAAAAA", {}, 404),
        ("GET", "/batches?cursor=nonsense", {}, 422),
        ("POST", "/analyses?filename=", {"data": b"x"}, 422),
        ("GET", "/analyses?limit=0", {}, 422),
        ("GET", "/analyses?cursor=nonsense", {}, 422),
        ("GET", "/analyses?state=lost", {}, 422),
    ],
)
def test_every_error_has_one_shape(program, method, path, options, status):
    answer = program.open(method, path, **options)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert {"type", "title", "status", "detail"} <= set(answer.json) and answer.json["status"] == status
    assert answer.json["detail"].endswith(".") and ("Allow" in answer.headers) == (status == 405)


def test_a_request_over_the_limit_is_a_problem(make_app, make_program):
    app = make_app(MAX_UPLOAD_MB=1, MAX_RECORDING_MB=1, MAX_BATCH_MB=1)
    token = make_program().token
    answer = app.test_client().post(
        "/api/v1/analyses",
        data=b"x" * 2_200_000,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "image/png"},
    )
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


def test_an_unforeseen_error_is_a_problem_without_a_traceback(app, program, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("webapp.api.resources.page_of_analyses", fail)
    answer = program.get("/analyses")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "secret detail" not in answer.text and "Traceback" not in answer.text


def test_pages_still_show_errors_as_pages(client):
    assert client.get("/nowhere").content_type.startswith("text/html")


def test_a_list_has_pages_and_filters(store, program, make_program):
    paths = [store(picture("real")), store(voice("deepfake")), store(picture("deepfake"))]
    assert make_program().get("/analyses").json == {"analyses": [], "next_cursor": None}
    seen, query = [], "/analyses?limit=2"
    page = program.get(query).json
    seen += page["analyses"]
    page = program.get(f"{query}&cursor={page['next_cursor']}").json
    seen += page["analyses"]
    assert [path_of(each) for each in seen] == paths[::-1] and page["next_cursor"] is None
    assert program.get("/analyses?limit=3").json["next_cursor"] is None  # a full page can be the last
    wanted = program.get("/analyses?media=image&verdict=deepfake&state=done").json["analyses"]
    assert [path_of(each) for each in wanted] == [paths[2]]


def test_a_page_of_a_list_stays_the_same_when_files_are_added(store, program):
    first = [store(picture()) for _ in range(3)]
    cursor = program.get("/analyses?limit=1").json["next_cursor"]
    store(picture())
    left = program.get(f"/analyses?cursor={cursor}").json["analyses"]
    assert [path_of(each) for each in left] == first[1::-1]


def test_a_stored_file_of_another_name_is_not_sent(app, program, store):
    path = store(picture())
    for name, status in (("lime.png", 200), ("lime-heat.png", 404)):
        app.extensions["storage"].save(f"{path[1:]}/{name}", b"a file")
        assert program.get(f"{path}/files/{name}").status_code == status


@pytest.mark.parametrize(
    ("address", "headers", "sentence"),
    [
        ("/analyses?callback_url=ftp://example.com", {}, "callback_url: It must begin with https://."),
        ("/analyses", {"Idempotency-Key": "two words"}, "It may have ASCII letters, digits and signs, but no spaces."),
    ],
)
def test_a_wrong_parameter_gets_a_sentence_of_its_own(program, face_jpeg, address, headers, sentence):
    answer = program.open("POST", address, data=face_jpeg, headers={"Content-Type": "image/jpeg", **headers})
    assert answer.status_code == 422 and sentence in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/record"),
        ("GET", "/explanations"),
        ("POST", "/explanation-checks"),
        ("POST", "/robustness"),
        ("GET", "/files/thumbnail.jpg"),
        ("GET", "/evidence.zip"),
        ("GET", "/webhooks"),
    ],
)
def test_another_token_sees_and_changes_nothing(store, program, make_program, method, end):
    path = store(picture())
    assert make_program().open(method, path + end).status_code == 404
    assert program.get(path).status_code == 200


def test_a_page_s_visitor_and_a_token_see_nothing_of_each_other(client, program, face_jpeg, sent):
    address = client.upload(face_jpeg).location
    assert program.get(address).status_code == 404
    assert client.get(path_of(sent)).status_code == 404


def test_a_deleted_analysis_is_gone_with_its_files(program, sent, stored_files):
    assert stored_files()
    assert program.delete(path_of(sent)).status_code == 204
    assert stored_files() == [] and program.get(path_of(sent)).status_code == 404
    assert program.delete(path_of(sent)).status_code == 404


@pytest.mark.slow
def test_the_evidence_of_a_picture_can_be_read_and_verified(program, sent, face_jpeg, real_detector):
    bundle = program.get(f"{path_of(sent)}/evidence.zip")
    assert bundle.content_type == "application/zip"
    assert verify_bundle(bundle.data, real_detector).differences == ()
    without = program.get(f"{path_of(sent)}/evidence.zip?original=false")
    names = zipfile.ZipFile(io.BytesIO(without.data)).namelist()
    assert names and not any(zipfile.ZipFile(io.BytesIO(without.data)).read(name) == face_jpeg for name in names)
    assert program.get(f"{path_of(sent)}/evidence.zip?original=maybe").status_code == 422


def test_explanations_come_with_their_heat_maps(program, sent):
    found = program.get(f"{path_of(sent)}/explanations").json
    (explanation,) = found["explanations"]
    assert found["can_be_checked"] and (explanation["method"], explanation["check"]) == ("class_map", None)
    assert all(0 <= value <= 1 for row in explanation["heatmap"] for value in row)
    assert program.get(explanation["heatmap_url"].removeprefix("/api/v1")).content_type == "image/png"


@pytest.mark.parametrize("matters", [True, False])
def test_a_check_that_was_run_is_returned_and_not_run_again(store, program, matters):
    detection = picture("deepfake")
    found = program.post(f"{store(detection, result=explained(detection, matters=matters))}/explanation-checks").json
    checks = [each["check"] for each in found["explanations"] if each["check"]]
    assert checks and all(check["matters"] is matters and check["sentence"].endswith(".") for check in checks)
    assert not found["can_be_checked"]


@pytest.mark.slow
def test_robustness_is_measured_on_request(program, sent):
    assert sent["result"]["robustness"] is None
    measured = program.post(f"{path_of(sent)}/robustness").json["result"]["robustness"]
    assert measured["scores"][0]["logit"] == pytest.approx(sent["result"]["logit"], abs=1e-3)
    assert program.get(path_of(sent)).json["result"]["robustness"] == measured


def test_a_record_restores_the_detection(program, sent, real_detector, face_jpeg):
    restored = from_record(program.get(f"{path_of(sent)}/record").json)
    expected = real_detector.detect(face_jpeg)
    assert (restored.verdict, len(restored.faces)) == (expected.verdict, len(expected.faces))


@pytest.mark.slow
def test_a_recording_waits_and_is_polled_until_it_is_done(app, program, real_detector):
    sound = make_sound(speak(4.0), format="flac", codec="flac")
    (analysis,) = program.send(sound, "/analyses?filename=memo.flac").json["analyses"]
    assert (analysis["state"], analysis["files_before"], analysis["result"]) == ("waiting", 0, None)
    path = path_of(analysis)
    for end in ("/explanations", "/record", "/evidence.zip"):
        assert program.get(path + end).status_code == 409
    with app.app_context():
        jobs.run(analyses.claim(), lambda: real_detector)
    result = program.get(path).json["result"]
    assert result["segments"] and result["duration_s"] == pytest.approx(4.0, abs=0.1)
    assert program.get(f"{path}/evidence.zip").content_type == "application/zip"


@pytest.mark.slow
def test_a_video_has_its_faces_over_time(app, program, portrait, real_detector):
    clip = make_video([*pan_over(portrait, 20)], fps=10)
    (analysis,) = program.send(clip, "/analyses?filename=trip.mp4").json["analyses"]
    with app.app_context():
        jobs.run(analyses.claim(), lambda: real_detector)
    (track, *_) = program.get(path_of(analysis)).json["result"]["tracks"]
    assert track["frames"] > 1 and sum(track["votes"].values()) == pytest.approx(1)


def test_an_analysis_is_cancelled_and_started_again(program):
    (analysis,) = program.send(make_sound(speak(1.0), format="flac", codec="flac")).json["analyses"]
    path = path_of(analysis)
    assert program.post(f"{path}/retry").status_code == 409
    assert program.post(f"{path}/cancel").json["state"] == "cancelled"
    assert program.post(f"{path}/cancel").status_code == 409
    assert program.post(f"{path}/retry").json["state"] == "waiting"


def test_the_model_card_names_the_models_of_the_results(app, sent):
    card = app.test_client().get("/api/v1/model-card").json
    models = {model["media"]: model for model in card["models"]}
    assert set(models) == {"image", "video", "audio"}
    assert models["image"]["sha256"] == sent["result"]["model_sha256"]
    assert models["image"]["threshold_fake"] == sent["result"]["band"]["threshold_fake"]
    for model in models.values():
        assert {"auc", "inconclusive", "real_called_deepfake", "deepfake_called_real"} <= set(model["figures"])
        assert all(figure["n"] > 0 for figure in model["figures"].values())


def test_health_needs_no_token(app):
    answer = app.test_client().get("/api/v1/health")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
