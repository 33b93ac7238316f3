"""The HTML pages."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
    url_for,
)
from sqlalchemy import select
from werkzeug.wrappers import Response as Redirection
from werkzeug.wsgi import FileWrapper

from detector import Verdict
from detector.media import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from detector.results import ERROR_CLASS_BY_VERDICT, HISTOGRAM_BIN_EDGES
from webapp import analyses, artifacts, evidence
from webapp.forms import UploadForm
from webapp.models import Analysis, State, db, new_token
from webapp.performance import PLOTS, error_sentence, plots_in, read_metrics, values_at
from webapp.samples import SAMPLES
from webapp.template_filters import work_headline, work_progress

AXIS = (0.01, 0.1, 0.5, 0.9, 0.99)  # probabilities that are named under the histograms of held-out scores
TEMPLATES = {"image": "picture.html", "video": "video.html", "audio": "voice.html"}

site = Blueprint("pages", __name__)


@site.get("/")
def upload() -> str:
    """Offer the form, the samples and the visitor's latest results."""
    _visitor()  # already here, so that two tabs of a new browser send their pictures as one visitor
    return upload_page()


def upload_page(*, error: str | None = None) -> str:
    """Render the start page, with what went wrong when something did."""
    return render_template(
        "upload.html",
        # without the request's data: reading them again could raise the very error that is being shown
        form=UploadForm(formdata=None),
        error=error,
        suffixes=",".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES | AUDIO_SUFFIXES)),
        samples=SAMPLES.values(),
        recent=analyses.recent(session.get("visitor")),
    )


@site.post("/analyses")
def create_analysis() -> Redirection | tuple[str, int]:
    """Take an upload and lead to its result."""
    form = UploadForm()
    if not form.validate():
        return upload_page(error=next(iter(form.file.errors), "Choose a file first.")), 400
    file = form.file.data
    return _show(analyses.submit(file.stream, filename=file.filename, visitor=_visitor()))


@site.post("/samples/<name>")
def create_sample(name: str) -> Redirection:
    """Judge one of our own samples as if it had been uploaded."""
    if name not in SAMPLES:
        abort(404)
    return _show(analyses.submit_sample(name, visitor=_visitor()))


@site.get("/analyses/<analysis_id>")
def result(analysis_id: str) -> str:
    """Show a verdict and what it rests on, or how far it is."""
    analysis = _own(analysis_id)
    if analysis.state != State.DONE:
        return render_template("work.html", analysis=analysis)
    metrics = read_metrics(current_app.config["VISUALIZATIONS"], analysis.media)
    rates = analysis.result.get("error_rates", [])  # results of earlier versions have none
    wrong_about = ERROR_CLASS_BY_VERDICT[Verdict(analysis.verdict)]
    return render_template(
        TEMPLATES[analysis.media],
        analysis=analysis,
        result=analysis.result,
        sample=SAMPLES.get(analysis.sample),
        rates=rates,
        telling_rates=[rate for rate in rates if rate["kind"] in wrong_about],
        axis={share: score_step(share) for share in AXIS},
        place=score_step(analysis.probability),
        how_often_wrong=error_sentence(
            metrics, analysis.verdict, analysis.result["model_sha256"], media=analysis.media
        ),
    )


@site.get("/analyses/<analysis_id>/state")
def state(analysis_id: str) -> Response:
    """Tell the page how far the judging is."""
    analysis = _own(analysis_id)
    is_over = analysis.state not in (State.WAITING, State.RUNNING)
    return jsonify(
        is_over=is_over,
        progress=analysis.progress if analysis.state == State.RUNNING else None,
        headline=None if is_over else work_headline(analysis),
        words=None if is_over else work_progress(analysis),
    )


@site.post("/analyses/<analysis_id>/cancel")
def cancel_analysis(analysis_id: str) -> Redirection:
    """Stop judging; when it is over already, show what came of it."""
    _own(analysis_id)
    analyses.cancel(analysis_id, session.get("visitor"))
    return redirect(url_for("pages.result", analysis_id=analysis_id), 303)


@site.post("/analyses/<analysis_id>/retry")
def retry_analysis(analysis_id: str) -> Redirection:
    """Judge again what was cancelled or failed."""
    _own(analysis_id)
    analyses.retry(analysis_id, session.get("visitor"))
    return redirect(url_for("pages.result", analysis_id=analysis_id), 303)


def score_step(probability: float) -> float:
    """Return where a probability lies among the steps of HISTOGRAM_BIN_EDGES, from 0 to their number."""
    step = min(bisect_right(HISTOGRAM_BIN_EDGES, probability), len(HISTOGRAM_BIN_EDGES) - 1) - 1
    low, high = HISTOGRAM_BIN_EDGES[step : step + 2]
    return step + (probability - low) / (high - low)


@site.get("/analyses/<analysis_id>/picture")
def picture(analysis_id: str) -> Response:
    """Send the upright JPEG copy of the picture."""
    return _send(_own(analysis_id), artifacts.PICTURE)


@site.get("/analyses/<analysis_id>/thumbnail")
def thumbnail(analysis_id: str) -> Response:
    """Send the small copy of the picture."""
    return _send(_own(analysis_id), artifacts.THUMBNAIL)


@site.get("/analyses/<analysis_id>/faces/<int:face>/heatmap")
def heatmap(analysis_id: str, face: int) -> Response:
    """Send the heat map over a face's crop box, a partly transparent PNG."""
    analysis = _own(analysis_id)
    if face >= len(analysis.result["faces"]):
        abort(404)
    return _send(analysis, artifacts.heatmap_name(face))


@site.get("/analyses/<analysis_id>/crop")
def crop(analysis_id: str) -> Response:
    """Send the most suspicious face as the network saw it."""
    return _send(_own(analysis_id), artifacts.CROP)


@site.get("/analyses/<analysis_id>/lime")
def lime(analysis_id: str) -> Response:
    """Send LIME's heat map over that face, once it was asked for."""
    return _send(_own(analysis_id), artifacts.LIME)


@site.post("/analyses/<analysis_id>/examination")
def examine_analysis(analysis_id: str) -> Redirection:
    """Check the explanation of a picture's score and ask LIME, then show what they say."""
    analysis = _own(analysis_id)
    try:
        evidence.run_explanation_checks(analysis)
    except FileNotFoundError:
        abort(404)
    return redirect(url_for("pages.result", analysis_id=analysis_id, _anchor="explanation"), 303)


@site.get("/analyses/<analysis_id>/evidence.zip")
def evidence_bundle(analysis_id: str) -> Response:
    """Send everything about a picture's verdict as one file; `?original=no` leaves the picture's own file out."""
    analysis = _own(analysis_id)
    if "provenance" not in analysis.result:  # a video, a recording, or a result of an earlier version
        abort(404)
    try:
        data = evidence.build_evidence_bundle(analysis, include_original=request.args.get("original") != "no")
    except FileNotFoundError:
        abort(404)
    response = Response(data, mimetype="application/zip")
    response.headers.set("Content-Disposition", "attachment", filename=f"evidence-{analysis.upload_sha256[:8]}.zip")
    return response


@site.get("/analyses/<analysis_id>/frames/<int:track>/<int:frame_index>")
def frame(analysis_id: str, track: int, frame_index: int) -> Response:
    """Send a face as the network saw it in a frame of a video."""
    return _send(_own(analysis_id), artifacts.frame_name(track, frame_index))


@site.get("/analyses/<analysis_id>/frames/<int:track>/<int:frame_index>/heatmap")
def frame_heatmap(analysis_id: str, track: int, frame_index: int) -> Response:
    """Send the heat map over that face, a partly transparent PNG."""
    return _send(_own(analysis_id), artifacts.frame_heatmap_name(track, frame_index))


@site.get("/analyses/<analysis_id>/spectrogram")
def spectrogram(analysis_id: str) -> Response:
    """Send the spectrogram of what was heard."""
    return _send(_own(analysis_id), artifacts.SPECTROGRAM)


@site.get("/analyses/<analysis_id>/spectrogram/heatmap")
def spectrogram_heatmap(analysis_id: str) -> Response:
    """Send the heat map over the spectrogram, a partly transparent PNG."""
    return _send(_own(analysis_id), artifacts.SPECTROGRAM_HEATMAP)


@site.get("/analyses/<analysis_id>/media")
def media(analysis_id: str) -> Response:
    """Send the uploaded video or recording, in parts where the player asks for some."""
    analysis = _own(analysis_id)
    if analysis.media == "image":
        abort(404)  # of a picture only our own upright copy is shown
    try:
        file = analyses.open_upload(analysis)
    except FileNotFoundError:
        abort(404)
    # Werkzeug's own wrapper jumps to the part that is asked for; the server's would read up to it.
    response = Response(FileWrapper(file), mimetype=analysis.upload.media_type, direct_passthrough=True)
    response.content_length = analysis.upload.size_bytes
    return response.make_conditional(request, accept_ranges=True, complete_length=analysis.upload.size_bytes)


@site.post("/analyses/<analysis_id>/delete")
def delete_analysis(analysis_id: str) -> Redirection:
    """Delete a result and its file."""
    if not analyses.delete(analysis_id, session.get("visitor")):
        abort(404)
    flash("The result and its file have been deleted.")
    return redirect(url_for("pages.upload"), 303)


@site.get("/performance")
def performance() -> str:
    """Show how good the models are on pictures and voices they have not seen."""
    folder = current_app.config["VISUALIZATIONS"]
    metrics, voices = read_metrics(folder), read_metrics(folder, "audio")
    return render_template(
        "performance.html",
        metrics=metrics,
        at=partial(values_at, metrics),
        voices_at=partial(values_at, voices),
        plots=plots_in(folder),
    )


@site.get("/visualizations/<name>.png")
def plot(name: str) -> Response:
    """Send one of the plots."""
    if name not in {plot.name for plot in PLOTS}:
        abort(404)
    return send_from_directory(current_app.config["VISUALIZATIONS"], f"{name}.png")


@site.get("/healthz")
def health() -> Response:
    """Tell a supervisor that this worker answers and reaches its database."""
    db.session.execute(select(1))
    return jsonify(status="ok")


def _visitor() -> str:
    """Return this browser session's random name, giving it one when it has none."""
    return session.setdefault("visitor", new_token())


def _own(analysis_id: str) -> Analysis:
    return analyses.get(analysis_id, session.get("visitor")) or abort(404)


def _show(analysis: Analysis) -> Redirection:
    return redirect(url_for("pages.result", analysis_id=analysis.id), 303)


def _send(analysis: Analysis, name: str) -> Response:
    try:
        with analyses.open_file(analysis, name) as file:
            return Response(file.read(), mimetype="image/png" if name.endswith(".png") else "image/jpeg")
    except FileNotFoundError:
        abort(404)
