"""Traces: from the request through the queue to the stages of the analysis, with nothing that is private."""

import json
import os
import re
import subprocess
import sys
import time

import httpx
import pytest
from clips import make_video, pan_over
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from project import ROOT
from traces import run_receiver

from detector.stages import observe_stages, stage
from webapp.config import StartupError

PATIENCE_S = 300  # a busy machine is slow
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
FILENAME = "a private name.mp4"


@pytest.fixture(scope="module")
def clip(portrait):
    """A second of a camera that moves over the astronaut."""
    return make_video(pan_over(portrait, 25, size_px=(160, 120)), options={"preset": "ultrafast"})


@pytest.fixture
def traced():
    """A receiver, and the variables with which a process sends to it soon."""
    with run_receiver() as receiver:
        yield receiver, {ENDPOINT: receiver.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture
def collected(monkeypatch):
    """Spans of this process: those that would be sent, after `PublicAttributes` and `WorthwhileTraces`."""
    from webapp.operations import spans

    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.sampler = spans.WorthwhileTraces(provider.sampler)
    provider.add_span_processor(SimpleSpanProcessor(spans.PublicAttributes(memory)))
    monkeypatch.setattr(spans, "_provider", lambda: provider)
    observe_stages(spans._stage_span)
    yield provider.get_tracer("test"), memory.get_finished_spans
    observe_stages(None)


def upload(address, data):
    """Send a video like a browser, wait for its result, and return the result's address and the session."""
    with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
        token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/").text)[1]
        sent = client.post("/analyses", data={"csrf_token": token}, files={"file": (FILENAME, data, "video/mp4")})
        assert sent.status_code == 303
        until = time.monotonic() + PATIENCE_S
        while "This is a" not in (page := client.get(sent.headers["Location"]).text) and "nconclusive" not in page:
            assert time.monotonic() < until, page
            time.sleep(0.2)
        return sent.headers["Location"], client.cookies["session"]


def check_trace(receiver, result):
    """Check the trace of an upload and return its spans by name; of several with one name the last."""

    def find(spans):
        uploads = [span for span in spans if span.name == "POST /analyses"]
        trace = [span for span in spans if uploads and span.trace == uploads[0].trace]
        names = {span.name for span in trace}
        return trace if names >= {"POST /analyses", "analysis", "frames", "store"} else None

    trace = receiver.wait_for(find, PATIENCE_S)
    by_id, by_name = {span.id: span for span in trace}, {span.name: span for span in trace}
    assert [span.name for span in trace if not span.parent] == ["POST /analyses"]
    assert all(span.parent in by_id for span in trace if span.parent)
    analysis = by_name["analysis"]
    assert analysis.attributes["deepfake.media"] == "video"
    assert analysis.attributes["deepfake.verdict"] in {"real", "deepfake", "inconclusive"}
    assert by_id[by_name["find faces"].parent] == by_name["frames"]
    assert by_id[by_name["frames"].parent] == analysis
    assert analysis.process != by_name["POST /analyses"].process
    assert by_name["POST /analyses"].attributes == {
        "http.request.method": "POST", "http.route": "/analyses", "http.response.status_code": 303,
    }  # fmt: skip
    location, session = result
    for private in (FILENAME, "private", location.rpartition("/")[2], session, "127.0.0.1", "deepfake.sqlite"):
        assert not [body for body in receiver.bodies if private.encode() in body], private
    return by_id, by_name


@pytest.mark.slow
@pytest.mark.embedded
def test_an_upload_is_one_trace_from_the_server_to_the_job_process(start_server, traced, clip, tmp_path):
    receiver, variables = traced
    settings = {"WEB_CONCURRENCY": "1", "DEEPFAKE_LOG": "json", **variables}
    with start_server(tmp_path, **settings) as (address, log):
        result = upload(address, clip)
        by_id, by_name = check_trace(receiver, result)
    assert by_id[by_name["analysis"].parent] == by_name["job"]
    assert by_id[by_name["job"].parent] == by_name["POST /analyses"]
    statements = [span.attributes.get("db.query.text", "") for span in by_id.values()]
    assert any(text.startswith("INSERT INTO analysis") for text in statements)
    assert sum("SET progress=? WHERE" in text for text in statements) == 1  # the last of one for each half second
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"event": "request"' in line]
    upload_line = next(line for line in lines if line["route"] == "/analyses" and line["method"] == "POST")
    assert upload_line["trace_id"] == by_name["POST /analyses"].trace and upload_line["request_id"]
    names = {span.name for span in receiver.spans}
    assert "GET /healthz" not in names and not [name for name in names if name.startswith("GET /static")]
    # The job process looks for work all the time, and no trace begins with that.
    assert {span.name for span in receiver.spans if not span.parent} <= {
        *("GET /", "POST /analyses", "GET /analyses/<analysis_id>")
    }


@pytest.mark.slow
def test_an_upload_is_one_trace_from_the_server_to_a_celery_worker(
    start_server, services, shared, traced, clip, tmp_path
):
    receiver, variables = traced
    settings = {f"DEEPFAKE_{name}": value for name, value in shared.items()}
    settings |= {"DEEPFAKE_JOBS": "celery", "DEEPFAKE_BROKER_URL": services.redis}
    settings |= {"WEB_CONCURRENCY": "1", **variables}
    own = {"DEEPFAKE_INSTANCE_PATH": str(tmp_path / "worker"), "DEEPFAKE_THREADS": "1"}
    environment = {**os.environ, **settings, **own}
    with open(tmp_path / "worker.log", "w") as output:
        command = [sys.executable, "-m", "celery", "-A", "webapp.celery_app", "worker"]
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        with start_server(tmp_path, **settings) as (address, _):
            by_id, by_name = check_trace(receiver, upload(address, clip))
    finally:
        worker.terminate()
        worker.wait(PATIENCE_S)
    run, sent = by_name["run/webapp.run_analysis"], by_name["apply_async/webapp.run_analysis"]
    assert by_id[by_name["analysis"].parent] == run and by_id[run.parent] == sent
    assert by_id[sent.parent] == by_name["POST /analyses"]
    assert run.attributes["celery.state"] == "SUCCESS"
    assert {"save file", "fetch file"} <= set(by_name)  # S3
    assert not [span for span in receiver.spans if "sweep" in span.name]


def test_a_stage_that_is_repeated_often_gets_sums(collected):
    tracer, finished = collected
    with tracer.start_as_current_span("job"):
        with stage("frames"):
            for _ in range(50):
                with stage("find faces"):
                    time.sleep(0.0001)
        with stage("score"):
            pass
    names = [span.name for span in finished()]
    assert names == ["find faces"] * 20 + ["frames", "score", "job"]
    totals = finished()[20].attributes
    assert totals["deepfake.find_faces.count"] == 50 and totals["deepfake.find_faces.s"] >= 0.005
    assert not finished()[21].attributes and finished()[0].parent.span_id == finished()[20].context.span_id


def test_of_an_error_only_its_kind_leaves_the_process(collected):
    tracer, finished = collected
    address = {"url.path": "/shared/hunter2", "http.route": "/shared/<token>"}
    with (
        pytest.raises(ValueError, match="hunter2"),
        tracer.start_as_current_span("GET /shared/<token>", attributes=address),
        stage("decode"),
    ):
        raise ValueError("hunter2")
    with tracer.start_as_current_span("SELECT /home/hunter2/database", attributes={"db.system": "sqlite"}):
        pass
    decode, get, query = finished()
    assert "hunter2" not in "".join(span.to_json() for span in finished())
    assert [event.attributes for event in decode.events] == [{"exception.type": "ValueError"}]
    assert not decode.status.is_ok and get.attributes == {"http.route": "/shared/<token>"}
    assert query.name == "SELECT"


def test_no_trace_begins_with_a_query_a_sweep_or_a_stage(collected):
    tracer, finished = collected
    with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT), tracer.start_as_current_span("more"):
        pass
    with tracer.start_as_current_span("run/webapp.sweep"), tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
        pass
    with stage("save file"):
        pass
    assert finished() == ()
    with tracer.start_as_current_span("GET /"), stage("save file"):
        for name in ("SELECT", "connect"):
            tracer.start_span(name, kind=SpanKind.CLIENT).end()
    assert [span.name for span in finished()] == ["SELECT", "save file", "GET /"]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({ENDPOINT: "collector:4317"}, f"{ENDPOINT} must begin with http:// or https://, not 'collector:4317'."),
        (
            {ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not 'grpc'.",
        ),
    ],
    ids=["address", "protocol"],
)
def test_what_cannot_be_used_stops_the_start(make_app, monkeypatch, variables, sentence):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=re.escape(sentence)):
        make_app()


def test_missing_packages_stop_the_start(make_app, monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://collector:4318")
    monkeypatch.delitem(sys.modules, "webapp.operations.spans", raising=False)
    monkeypatch.delattr("webapp.operations.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(StartupError, match=r"Traces need the packages of requirements-scale\.txt: .*opentelemetry"):
        make_app()


@pytest.mark.parametrize(
    "variables", [{}, {ENDPOINT: ""}, {ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"}], ids=str
)
def test_without_a_receiver_nothing_is_traced(make_app, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not hasattr(make_app(), "_is_instrumented_by_opentelemetry")
