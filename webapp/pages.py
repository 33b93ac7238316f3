"""The HTML pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flask import (
    Blueprint,
    Response,
    abort,
    after_this_request,
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

from detector.media import MEDIA
from detector.text import translatable
from webapp import analyses, drawings, evidence, page_files, uploads
from webapp.batches import results
from webapp.batches.files import submit_upload
from webapp.feedback.cases import case_on
from webapp.forms import UploadForm
from webapp.headers import allow_capture
from webapp.history.comparison import changes
from webapp.languages import translate
from webapp.media_pages import IMAGE_SEARCHES, MEDIUM_PAGES
from webapp.models import Analysis, Batch, State, db, new_token
from webapp.performance import experimental_sentence, read_metrics, read_unseen_metrics, values_at
from webapp.plots import PLOTS, draw_plots
from webapp.result_words import words_of
from webapp.samples import SAMPLES
from webapp.sharing.links import SHARE_DAYS, links_of, take_new_link
from webapp.template_filters import passed_time, work_headline, work_progress

site = Blueprint("pages", __name__)


@site.get("/")
def upload() -> str:
    """Show the form, the samples and the visitor's latest results."""
    _visitor()  # creates the session, so that two tabs of a new browser upload as one visitor
    return upload_page()


def upload_page(*, error: str | None = None) -> str:
    """Render the start page, with a sentence about an error if there was one."""
    after_this_request(allow_capture)
    return render_template(
        "upload.html",
        # without the request's data: reading them again could raise the error that is being shown
        form=UploadForm(formdata=None),
        error=error,
        suffixes=",".join([*sorted(suffix for medium in MEDIA.values() for suffix in medium.suffixes), ".zip"]),
        samples=SAMPLES.values(),
        recent=results.recent(session.get("visitor")),
        thumbnail_name=page_files.THUMBNAIL,
    )


@site.post("/analyses")
def create_analysis() -> Redirection | tuple[str, int]:
    """Accept an upload and redirect to its result, or to the results of all its files."""
    files = UploadForm().files
    if not files:
        return upload_page(error=translatable("Choose a file first.")), 400
    submitted = submit_upload(files, visitor=_visitor())
    if isinstance(submitted, Batch):
        return redirect(url_for("batches.show", batch_id=submitted.id), 303)
    return _redirect_to_result(submitted)


@site.post("/samples/<name>")
def create_sample(name: str) -> Redirection:
    """Submit one of the shipped samples like an upload."""
    if name not in SAMPLES:
        abort(404)
    return _redirect_to_result(analyses.submit_sample(name, visitor=_visitor()))


@site.get("/analyses/<analysis_id>")
def result(analysis_id: str) -> str:
    """Show a verdict with its evidence, or the progress of the analysis."""
    analysis = _own(analysis_id)
    if analysis.state != State.DONE:
        return render_template(
            "work.html", analysis=analysis, medium=MEDIA[analysis.media], before=analyses.place_in_queue(analysis)
        )
    return render_own_result(analysis)


def render_own_result(analysis: Analysis, **more: object) -> str:
    """Render the page of an analysis that is done for its owner, with the forms and what the owner may compare."""
    earlier = analyses.get(analysis.repeats, analysis.visitor) if analysis.repeats else None
    values: dict[str, object] = {
        "earlier": earlier,
        "changes": changes(earlier, analysis) if earlier else [],
        "links": links_of(analysis.id),
        "new_link": take_new_link(analysis.id),
        "share_days": SHARE_DAYS,
        "case": case_on(analysis),
    }
    return render_result(analysis, **values | more)


def render_result(analysis: Analysis, **more: object) -> str:
    """Render the page of an analysis that is done; `more` adds to the values for its template, or replaces them."""
    page, record = MEDIUM_PAGES[analysis.media], analysis.record
    values: dict[str, object] = {
        "analysis": analysis,
        "result": record,
        "medium": MEDIA[analysis.media],
        "sample": SAMPLES.get(analysis.sample or ""),
        **vars(words_of(analysis)),
        "searched_image": page.searched_image,
        "image_searches": IMAGE_SEARCHES,
        "can_check_explanation": evidence.can_check_explanation(record),
        "can_test_robustness": evidence.can_test_robustness(record),
        "drawings": drawings,
        "page_files": page_files,
    }
    return render_template(page.template, **values | more)


@site.get("/analyses/<analysis_id>/state")
def state(analysis_id: str) -> Response:
    """Report the progress of an analysis to its page."""
    analysis = _own(analysis_id)
    is_over = analysis.state not in (State.WAITING, State.RUNNING)
    return jsonify(
        is_over=is_over,
        progress=analysis.progress if analysis.state == State.RUNNING else None,
        headline=None if is_over else translate(work_headline(analysis)),
        words=None if is_over else translate(work_progress(analysis, analyses.place_in_queue(analysis))),
        passed=None if is_over else passed_time(analysis),
        check_progress=analysis.progress if analysis.state == State.DONE else None,
    )


@site.post("/analyses/<analysis_id>/cancel")
def cancel_analysis(analysis_id: str) -> Redirection:
    """Stop an analysis; if it is already over, show its result."""
    _own(analysis_id)
    analyses.cancel(analysis_id, session.get("visitor"))
    return redirect(url_for("pages.result", analysis_id=analysis_id), 303)


@site.post("/analyses/<analysis_id>/retry")
def retry_analysis(analysis_id: str) -> Redirection:
    """Start an analysis again after it was cancelled or failed."""
    _own(analysis_id)
    analyses.retry(analysis_id, session.get("visitor"))
    return redirect(url_for("pages.result", analysis_id=analysis_id), 303)


@site.get("/analyses/<analysis_id>/files/<name>")
def page_file(analysis_id: str, name: str) -> Response:
    """Send a file that was drawn for a page, such as the upright picture or a heat map."""
    return send_page_file(_own(analysis_id), name)


def send_page_file(analysis: Analysis, name: str) -> Response:
    """Send a file that was drawn for the page of an analysis; 404 if there is none of this name."""
    if not page_files.is_served(name):
        abort(404)
    try:
        with analyses.open_file(analysis, name) as file:
            return Response(file.read(), mimetype=page_files.media_type_of(name))
    except FileNotFoundError:
        abort(404)


@site.post("/analyses/<analysis_id>/explanation-checks")
def check_explanation(analysis_id: str) -> Redirection:
    """Check the explanation of a picture's score, explain it by LIME too, and show both."""
    return _add_evidence(analysis_id, evidence.run_explanation_checks, anchor="explanation")


@site.post("/analyses/<analysis_id>/robustness")
def measure_robustness(analysis_id: str) -> Redirection:
    """Score degraded copies of a picture, and show the scores."""
    return _add_evidence(analysis_id, evidence.run_robustness_test, anchor="robustness")


@site.get("/analyses/<analysis_id>/media")
def media(analysis_id: str) -> Response:
    """Send the uploaded video or recording, or the range that the player requests."""
    return send_media(_own(analysis_id))


def send_media(analysis: Analysis) -> Response:
    """Send the video or recording of an analysis, or the requested range; 404 for a picture."""
    if not MEDIA[analysis.media].has_duration:
        abort(404)  # only the upright copy of a picture is shown
    try:
        file = uploads.open_upload(analysis.upload_sha256)
    except FileNotFoundError:
        abort(404)
    # Werkzeug's own wrapper seeks to the requested range; the server's wrapper would read up to it.
    response = Response(FileWrapper(file), mimetype=analysis.upload.media_type, direct_passthrough=True)
    response.content_length = analysis.upload.size_bytes
    response.make_conditional(request, accept_ranges=True, complete_length=analysis.upload.size_bytes)
    return response


@site.post("/analyses/<analysis_id>/delete")
def delete_analysis(analysis_id: str) -> Redirection:
    """Delete a result and its file."""
    if not analyses.delete(analysis_id, session.get("visitor")):
        abort(404)
    flash(translatable("The result and its file have been deleted."))
    return redirect(url_for("pages.upload"), 303)


@site.get("/performance")
def performance() -> str:
    """Show the performance of the models: on kinds left out of training, on known collections, videos and voices."""
    folder = current_app.config["VISUALIZATIONS"]
    metrics, videos, voices = (read_metrics(folder, media) for media in ("image", "video", "audio"))
    unseen = read_unseen_metrics(folder, metrics)
    return render_template(
        "performance.html",
        metrics=metrics,
        at=partial(values_at, metrics),
        unseen=unseen,
        unseen_at=partial(values_at, unseen),
        videos_at=partial(values_at, videos),
        videos_experimental=experimental_sentence(videos, values_at(videos, "model").get("sha256_h5", "")),
        voices_at=partial(values_at, voices),
        plots=draw_plots(folder, metrics, unseen),
    )


@site.get("/visualizations/<name>.png")
def plot(name: str) -> Response:
    """Send one of the plots as a PNG file."""
    if name not in {plot.name for plot in PLOTS}:
        abort(404)
    return send_from_directory(current_app.config["VISUALIZATIONS"], f"{name}.png")


@site.get("/favicon.ico")
def favicon() -> Response:
    """Send the icon to browsers that request it by its usual address."""
    return current_app.send_static_file("favicon.ico")


@site.get("/healthz")
def health() -> Response:
    """Report that this worker responds and reaches its database."""
    db.session.execute(select(1))
    return jsonify(status="ok")


def _visitor() -> str:
    """Return the visitor's random name, which is kept in the session; create it if there is none."""
    visitor: str = session.setdefault("visitor", new_token())
    return visitor


def _own(analysis_id: str) -> Analysis:
    return analyses.get(analysis_id, session.get("visitor")) or abort(404)


def _add_evidence(analysis_id: str, add: Callable[[Analysis], None], *, anchor: str) -> Redirection:
    """Run a test that a visitor requests, and lead to its section of the result."""
    try:
        add(_own(analysis_id))
    except FileNotFoundError:
        abort(404)
    return redirect(url_for("pages.result", analysis_id=analysis_id, _anchor=anchor), 303)


def _redirect_to_result(analysis: Analysis) -> Redirection:
    return redirect(url_for("pages.result", analysis_id=analysis.id), 303)
