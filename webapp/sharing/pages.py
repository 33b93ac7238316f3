"""The pages of share links: what an owner does with them, and what others see."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request, session, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as Redirection

from detector.text import translatable
from webapp import analyses
from webapp.languages import translate
from webapp.media_pages import MEDIUM_PAGES
from webapp.models import Analysis, State, db
from webapp.pages import render_result, send_media, send_page_file
from webapp.sharing.links import MAX_LINKS, SHARE_DAYS, ShareLink, create_link, find_shared, keep_new_link, revoke_link

HEADERS = {"X-Robots-Tag": "noindex, nofollow", "Referrer-Policy": "no-referrer"}

sharing = Blueprint("sharing", __name__)


@sharing.post("/analyses/<analysis_id>/links")
def create(analysis_id: str) -> Redirection:
    """Create a link to a result, and show it once."""
    analysis = _own(analysis_id)
    days = request.form.get("days", type=int)
    if days not in SHARE_DAYS:
        abort(400)
    token = create_link(analysis, days=days, shows_filename=request.form.get("shows_filename") == "yes")
    if token is None:
        sentence = translatable("A result can have at most {most} links. Revoke one first.")
        flash(sentence.format(most=MAX_LINKS))
    else:
        keep_new_link(analysis_id, token)
    return redirect(url_for("pages.result", analysis_id=analysis_id, _anchor="share"), 303)


@sharing.post("/analyses/<analysis_id>/links/<link_id>/revoke")
def revoke(analysis_id: str, link_id: str) -> Redirection:
    """End a link before its time."""
    if not revoke_link(_own(analysis_id).id, link_id):
        abort(404)
    flash(translatable("The link has been revoked."))
    return redirect(url_for("pages.result", analysis_id=analysis_id, _anchor="share"), 303)


@sharing.get("/shared/<token>")
def shared(token: str) -> str:
    """Show the result behind a link to anyone who has it, without the owner's actions."""
    analysis, link = _shared(token)
    if not link.shows_filename:
        assert analysis.upload  # loaded before the row leaves the session
        db.session.expunge(analysis)  # nothing below can store or read the name
        analysis.filename = translate(MEDIUM_PAGES[analysis.media].shared_name)
    return render_result(analysis, shared=link, can_check_explanation=False, can_test_robustness=False)


@sharing.get("/shared/<token>/files/<name>")
def file(token: str, name: str) -> Response:
    """Send a file that was drawn for a shared page, such as the upright picture or a heat map."""
    return send_page_file(_shared(token)[0], name)


@sharing.get("/shared/<token>/media")
def media(token: str) -> Response:
    """Send a shared video or recording, or the range that the player requests."""
    return send_media(_shared(token)[0])


@sharing.errorhandler(NotFound)
def show_no_link(_error: NotFound) -> tuple[str, int]:
    """Say the same of a link that has ended, was revoked, or never existed."""
    sentence = translatable("This link has ended, or its owner has revoked it.")
    return render_template("error.html", code=404, title=translatable("Nothing is shared here"), sentence=sentence), 404


@sharing.after_request
def _hide_from_others(response: Response) -> Response:
    """Keep a link out of search engines, and out of what a browser sends to other sites."""
    if request.endpoint in {"sharing.shared", "sharing.file", "sharing.media"}:
        response.headers.update(HEADERS)
    return response


def _own(analysis_id: str) -> Analysis:
    analysis = analyses.get(analysis_id, session.get("visitor"))
    return analysis if analysis is not None and analysis.state == State.DONE else abort(404)


def _shared(token: str) -> tuple[Analysis, ShareLink]:
    g.share_token = token  # the addresses of the page's files begin with it
    return find_shared(token) or abort(404)
