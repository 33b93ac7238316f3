"""The pages of feedback: the form of a result, and all cases of a visitor."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirection

from detector.text import translatable
from webapp import analyses
from webapp.feedback.cases import CLAIMED_TRUTHS, MAX_NOTE_CHARACTERS, cases_of, store_case, withdraw_case
from webapp.models import Analysis, State
from webapp.pages import render_own_result

YES = "yes"  # of a ticked box

feedback = Blueprint("feedback", __name__)


@feedback.post("/analyses/<analysis_id>/feedback")
def send(analysis_id: str) -> Redirection | tuple[str, int]:
    """Store that a verdict is wrong, if the visitor consents; nothing is kept otherwise."""
    analysis = _own(analysis_id)
    note = request.form.get("note", "").replace("\r\n", "\n").strip()
    truth, is_kept = request.form.get("truth", ""), request.form.get("is_kept") == YES
    if problem := _find_problem(truth, note, has_consent=request.form.get("consent") == YES):
        draft = {"truth": truth, "note": note, "is_kept": is_kept, "problem": problem}
        return render_own_result(analysis, draft=draft), 400
    store_case(analysis, truth=truth, note=note, is_kept=is_kept)
    flash(translatable("Thank you. The case has been stored."))
    return redirect(url_for("pages.result", analysis_id=analysis_id, _anchor="feedback"), 303)


@feedback.get("/feedback")
def show() -> str:
    """Show all cases of this visitor, also those whose result has been deleted."""
    cases = cases_of(session.get("visitor"))
    existing = {case.id for case in cases if analyses.get(case.result_id, case.visitor)}
    return render_template("cases.html", cases=cases, existing=existing)


@feedback.post("/feedback/<case_id>/withdraw")
def withdraw(case_id: str) -> Redirection:
    """Delete a case."""
    if not withdraw_case(case_id, session.get("visitor")):
        abort(404)
    flash(translatable("The case has been withdrawn and is no longer kept."))
    return redirect(url_for("feedback.show"), 303)


def _find_problem(truth: str, note: str, *, has_consent: bool) -> str:
    """Return what is missing or too long, as a sentence; "" if nothing is."""
    if truth not in CLAIMED_TRUTHS:
        return translatable("Choose what the file is: real or a deepfake.")
    if len(note) > MAX_NOTE_CHARACTERS:
        sentence = translatable("The note has {count} characters; at most {most} are kept.")
        return sentence.format(count=f"{len(note):,}", most=f"{MAX_NOTE_CHARACTERS:,}")
    if not has_consent:
        return translatable("Nothing was kept, because the box of your consent is not ticked.")
    return ""


def _own(analysis_id: str) -> Analysis:
    analysis = analyses.get(analysis_id, session.get("visitor"))
    return analysis if analysis is not None and analysis.state == State.DONE else abort(404)
