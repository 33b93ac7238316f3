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
    send_from_directory,
    session,
    url_for,
)
from sqlalchemy import select
from werkzeug.wrappers import Response as Redirection

from detector import IMAGE_SUFFIXES, SCORE_EDGES, WRONG_ABOUT, Verdict
from webapp import analyses
from webapp.forms import UploadForm
from webapp.measurements import PLOTS, error_sentence, plots_in, read_metrics, values_at
from webapp.models import Analysis, db, new_token
from webapp.samples import SAMPLES

AXIS = (0.01, 0.1, 0.5, 0.9, 0.99)  # probabilities that are named under the histograms of held-out scores

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
        suffixes=",".join(sorted(IMAGE_SUFFIXES)),
        samples=SAMPLES.values(),
        recent=analyses.recent(session.get("visitor")),
    )


@site.post("/analyses")
def create_analysis() -> Redirection | tuple[str, int]:
    """Judge an uploaded picture and lead to its result."""
    form = UploadForm()
    if not form.validate():
        return upload_page(error=next(iter(form.picture.errors), "Choose a picture first.")), 400
    file = form.picture.data
    return _show(analyses.submit(file.read(), filename=file.filename, visitor=_visitor()))


@site.post("/samples/<name>")
def create_sample(name: str) -> Redirection:
    """Judge one of our own samples as if it had been uploaded."""
    if name not in SAMPLES:
        abort(404)
    return _show(analyses.submit_sample(name, visitor=_visitor()))


@site.get("/analyses/<analysis_id>")
def result(analysis_id: str) -> str:
    """Show a verdict and what it rests on."""
    analysis = _own(analysis_id)
    metrics = read_metrics(current_app.config["VISUALIZATIONS"])
    rates = analysis.result.get("error_rates", [])  # results of earlier versions have none
    wrong_about = WRONG_ABOUT[Verdict(analysis.verdict)]
    return render_template(
        "result.html",
        analysis=analysis,
        result=analysis.result,
        sample=SAMPLES.get(analysis.sample),
        rates=rates,
        telling_rates=[rate for rate in rates if rate["kind"] in wrong_about],
        axis={share: score_step(share) for share in AXIS},
        place=score_step(analysis.probability),
        how_often_wrong=error_sentence(metrics, analysis.verdict, analysis.result["model_sha256"]),
    )


def score_step(probability: float) -> float:
    """Return where a probability lies among the steps of SCORE_EDGES, from 0 to their number."""
    step = min(bisect_right(SCORE_EDGES, probability), len(SCORE_EDGES) - 1) - 1
    low, high = SCORE_EDGES[step : step + 2]
    return step + (probability - low) / (high - low)


@site.get("/analyses/<analysis_id>/picture")
def picture(analysis_id: str) -> Response:
    """Send the upright JPEG copy of the picture."""
    return _send(_own(analysis_id), analyses.PICTURE)


@site.get("/analyses/<analysis_id>/thumbnail")
def thumbnail(analysis_id: str) -> Response:
    """Send the small copy of the picture."""
    return _send(_own(analysis_id), analyses.THUMBNAIL)


@site.get("/analyses/<analysis_id>/faces/<int:face>/heatmap")
def heatmap(analysis_id: str, face: int) -> Response:
    """Send the heat map over a face's crop box, a partly transparent PNG."""
    analysis = _own(analysis_id)
    if face >= len(analysis.result["faces"]):
        abort(404)
    return _send(analysis, analyses.heatmap_name(face))


@site.post("/analyses/<analysis_id>/delete")
def delete_analysis(analysis_id: str) -> Redirection:
    """Delete a result and its picture."""
    if not analyses.delete(analysis_id, session.get("visitor")):
        abort(404)
    flash("The result and its picture have been deleted.")
    return redirect(url_for("pages.upload"), 303)


@site.get("/performance")
def performance() -> str:
    """Show how good the model is on pictures it has not seen."""
    folder = current_app.config["VISUALIZATIONS"]
    metrics = read_metrics(folder)
    return render_template("performance.html", metrics=metrics, at=partial(values_at, metrics), plots=plots_in(folder))


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
