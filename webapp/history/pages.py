"""The pages of the history: the list, deletion of several, repetition, and two results side by side."""

from __future__ import annotations

import io
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    redirect,
    render_template,
    request,
    send_file,
    session,
    url_for,
)
from werkzeug.wrappers import Response as Redirection

from detector.media import MEDIA
from detector.text import format_count, translatable
from webapp import analyses, drawings, page_files
from webapp.batches.results import offered_batches
from webapp.exports import FORMATS, export_analyses
from webapp.history.comparison import compare, picture_of
from webapp.history.search import (
    FIELDS,
    HISTORY_ORDERS,
    MAX_EXPORTED,
    InvalidSearch,
    Search,
    count_all,
    find,
    find_all,
)
from webapp.models import State
from webapp.outcomes import OUTCOME_NAMES
from webapp.result_words import words_of

COMPARED = 2

history = Blueprint("history", __name__)


@history.get("/history")
def listing() -> str | tuple[str, int]:
    """Show a page of the visitor's results, those that are searched for."""
    return listing_page()


def listing_page(*, error: str | None = None, chosen: Collection[str] = ()) -> str | tuple[str, int]:
    """Render the list of the request's search.

    Args:
        error: a sentence about what could not be done.
        chosen: ids of the analyses whose boxes stay checked.
    """
    visitor = session.get("visitor")
    given = _given()
    try:
        search = Search.of(given)
    except InvalidSearch as problem:
        search, error = Search(), str(problem)
        found = None
    else:
        found = find(visitor, search)
    page = render_template(
        "history.html",
        batches=offered_batches(visitor, search.batch),
        search=search,
        given=given,
        found=found,
        count_all=count_all(visitor),
        error=error,
        chosen=chosen,
        media=MEDIA,
        outcomes=OUTCOME_NAMES,
        sorts=HISTORY_ORDERS,
        thumbnail_name=page_files.THUMBNAIL,
        formats=FORMATS,
        max_exported=MAX_EXPORTED,
    )
    return (page, 400) if error else page


@history.get("/history/results.<ending>")
def download(ending: str) -> Response | str | tuple[str, int]:
    """Send all results that fit the search as one file; `ending` is csv, json, xlsx or pdf."""
    if ending not in FORMATS:
        abort(404)
    try:
        found = find_all(session.get("visitor"), Search.of(_given()))
    except InvalidSearch:
        return listing_page()  # which says what cannot be read
    if len(found) > MAX_EXPORTED:
        sentence = translatable("At most {count} results fit into one file. Search for fewer of them.")
        return listing_page(error=sentence.format(count=format_count(MAX_EXPORTED)))
    data = export_analyses(found, ending, title=translatable("Your results"))
    name = f"results-{datetime.now(UTC):%Y-%m-%d}.{ending}"
    return send_file(
        io.BytesIO(data), mimetype=FORMATS[ending].media_type, as_attachment=True, download_name=name, max_age=None
    )


@history.post("/history/delete")
def delete_chosen() -> Redirection | str | tuple[str, int]:
    """Delete the results whose boxes are checked."""
    chosen = request.form.getlist("analysis")
    if not chosen:
        return listing_page(error=translatable("Choose at least one result."))
    _say_deleted(analyses.delete_several(session.get("visitor"), chosen))
    return redirect(_address_of_search(), 303)


@history.post("/history/delete-all")
def delete_all() -> Redirection:
    """Delete all results of the visitor."""
    _say_deleted(analyses.delete_several(session.get("visitor")))
    return redirect(url_for("history.listing"), 303)


@history.post("/analyses/<analysis_id>/repeat")
def repeat_analysis(analysis_id: str) -> Redirection:
    """Analyse a stored file again with the present model, and lead to the new result."""
    try:
        analysis = analyses.repeat(analysis_id, session.get("visitor")) or abort(404)
    except FileNotFoundError:
        abort(404)
    return redirect(url_for("pages.result", analysis_id=analysis.id), 303)


@history.get("/compare")
def comparison() -> str | tuple[str, int]:
    """Show two results side by side."""
    chosen = list(dict.fromkeys(request.args.getlist("analysis")))
    if len(chosen) != COMPARED:
        return listing_page(error=translatable("Choose exactly two results to compare."), chosen=chosen)
    found = [analyses.get(each, session.get("visitor")) or abort(404) for each in chosen]
    if any(analysis.state != State.DONE for analysis in found):
        return listing_page(
            error=translatable("Only results can be compared. Wait until both are done."), chosen=chosen
        )
    return render_template(
        "comparison.html",
        sides=[(analysis, words_of(analysis), picture_of(analysis)) for analysis in found],
        rows=compare(*found),
        address_of_list=_address_of_search(),
        media=MEDIA,
        drawings=drawings,
        page_files=page_files,
    )


def _given() -> dict[str, Any]:
    """Return the fields of the search as they were sent."""
    return {name: request.values[name] for name in FIELDS if request.values.get(name)}


def _address_of_search() -> str:
    """Return the address of the list from which a form was sent."""
    return url_for("history.listing", **_given())


def _say_deleted(count: int) -> None:
    if count == 1:
        flash(translatable("The result and its file have been deleted."))
    else:
        sentence = translatable("{count} results and their files have been deleted.")
        flash(sentence.format(count=format_count(count)))
