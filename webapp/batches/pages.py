"""The page of a batch, and what can be done there."""

from __future__ import annotations

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response as Redirection

from detector.media import MEDIA
from detector.text import translatable
from webapp import analyses, page_files
from webapp.batches import results
from webapp.batches.downloads import send_results
from webapp.batches.files import delete_batch
from webapp.batches.results import BATCH_ORDERS, find_batches, find_rows
from webapp.drawings.outcomes import outcome_bars
from webapp.exports import FORMATS
from webapp.exports.sentences import wrong_sentences
from webapp.history.search import InvalidSearch, Search
from webapp.models import Batch
from webapp.outcomes import OUTCOME_NAMES

TABLE_FIELDS = ("name", "verdict", "media", "sort", "page")  # of the search that the page offers

batches = Blueprint("batches", __name__, url_prefix="/batches")


@batches.get("")
def listing() -> str:
    """List the visitor's batches, a page at a time."""
    search = Search.of({"page": request.args.get("page", "")})
    return render_template(
        "batches.html",
        found=find_batches(session.get("visitor"), search.page),
        outcomes=OUTCOME_NAMES,
        thumbnail_name=page_files.THUMBNAIL,
    )


@batches.get("/<batch_id>")
def show(batch_id: str) -> str | tuple[str, int]:
    """Show a page of the results of a batch, those that are searched for."""
    batch = _own(batch_id)
    (summary,) = results.summarise([batch])
    given = {name: request.args[name] for name in TABLE_FIELDS if request.args.get(name)}
    error = None
    try:
        search = Search.of(given, orders=BATCH_ORDERS)
    except InvalidSearch as problem:
        search, error = Search(), str(problem)
    page = render_template(
        "batch.html",
        batch=batch,
        summary=summary,
        search=search,
        given=given,
        found=find_rows(batch, search),
        error=error,
        outcomes=OUTCOME_NAMES,
        chart=outcome_bars(summary.counts),
        wrong_sentences=wrong_sentences(results.read_verdicts(batch), current_app.config["VISUALIZATIONS"]),
        formats=FORMATS,
        media=MEDIA,
        thumbnail_name=page_files.THUMBNAIL,
    )
    return (page, 400) if error else page


@batches.post("/<batch_id>/cancel")
def cancel(batch_id: str) -> Redirection:
    """Stop the analyses of a batch that are not done; the uploads stay."""
    _own(batch_id)
    analyses.cancel_batch(batch_id, session.get("visitor"))
    return redirect(url_for("batches.show", batch_id=batch_id), 303)


@batches.post("/<batch_id>/retry")
def retry(batch_id: str) -> Redirection:
    """Start the cancelled and the failed analyses of a batch again."""
    _own(batch_id)
    analyses.retry_batch(batch_id, session.get("visitor"))
    return redirect(url_for("batches.show", batch_id=batch_id), 303)


@batches.post("/<batch_id>/delete")
def delete(batch_id: str) -> Redirection:
    """Delete all results of a batch and their files; who did so in the list comes back to it."""
    _own(batch_id)
    delete_batch(batch_id, session.get("visitor"))
    flash(translatable("All results of this upload and their files have been deleted."))
    return redirect(url_for("batches.listing" if "in_list" in request.form else "pages.upload"), 303)


@batches.get("/<batch_id>/results.<ending>")
def download(batch_id: str, ending: str) -> Response:
    """Send all results of a batch as one file in the order as sent; `ending` is csv, json, xlsx or pdf."""
    batch = _own(batch_id)
    if ending not in FORMATS:
        abort(404)
    return send_results(batch, ending)


def _own(batch_id: str) -> Batch:
    return results.get(batch_id, session.get("visitor")) or abort(404)
