"""The addresses of the API below /api/v1."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, g, jsonify, request
from flask_smorest import Blueprint
from sqlalchemy import select
from werkzeug.wsgi import FileWrapper

from detector import __version__
from webapp import analyses, evidence, page_files
from webapp.api import schemas, webhooks
from webapp.api.lists import page_of_analyses, page_of_batches
from webapp.api.model_cards import read_model_card
from webapp.api.problems import API_PREFIX, Problem
from webapp.api.results import analysis_values, batch_values, explanation_values, has_evidence, list_values
from webapp.api.submissions import FORM_TYPE, RAW_TYPE, ZIP_TYPES, find_analyses, received_files, submit_request
from webapp.api.tables import WebhookCall
from webapp.api.tokens import READ, WRITE, require_token
from webapp.api.webhook_addresses import ForbiddenAddress, check_url
from webapp.batches import files as batch_files
from webapp.batches import results as batches
from webapp.batches.downloads import send_results
from webapp.batches.results import BatchSummary
from webapp.exports import FORMATS
from webapp.models import Analysis, State, db

API_BLUEPRINT = "api"
PUBLIC_ENDPOINTS = {"api.get_model_card", "api.get_health"}
READING = {"GET", "HEAD", "OPTIONS"}
BINARY = {"type": "string", "format": "binary"}
FILE_BODIES = {
    FORM_TYPE: {"schema": schemas.FILES_FORM},
    RAW_TYPE: {"schema": {**BINARY, "minLength": 1}},
    ZIP_TYPES[0]: {"schema": {**BINARY, "minLength": 1}},
}

blueprint = Blueprint(API_BLUEPRINT, __name__, url_prefix=API_PREFIX, description="Files and their verdicts.")


def refusals(*statuses: int, is_public: bool = False) -> Callable[[Any], Any]:
    """Return a decorator that documents the statuses of the problems of an operation."""
    common = (429,) if is_public else (401, 403, 429)

    def document(function: Any) -> Any:
        for status in sorted({*common, *statuses}):
            function = blueprint.alt_response(status, HTTPStatus(status).name)(function)
        return blueprint.doc(security=[])(function) if is_public else function

    return document


def exported_files(function: Any) -> Any:
    """Document the formats of an export beside JSON."""
    for media_type in (each.media_type for ending, each in FORMATS.items() if ending != "json"):
        function = blueprint.response(200, BINARY, content_type=media_type)(function)
    return function


@blueprint.before_request
def authenticate() -> None:
    """Require a token with the scope of the request, except for what is public."""
    if request.endpoint not in PUBLIC_ENDPOINTS:
        g.visitor = require_token(READ if request.method in READING else WRITE).visitor


@blueprint.post("/analyses")
@blueprint.arguments(schemas.FileQuery, location="query")
@blueprint.arguments(schemas.IdempotencyHeader, location="headers")
@blueprint.doc(requestBody={"required": True, "content": FILE_BODIES})
@blueprint.response(201, schemas.SubmissionSchema, description="The file was accepted.")
@blueprint.alt_response(202, schema=schemas.SubmissionSchema, description="At least one file of a batch was accepted.")
@refusals(400, 409, 410, 413, 415, 422, 503)
def create_analyses(query: dict[str, str], headers: dict[str, str]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Analyse files

    Send one or several files in the field `file` of a form, or one file as the body. A body may also have the media
    type of a picture, a video, a recording or a ZIP archive.

    A file on its own is answered with 201. A picture then has its result; a video or a recording waits for its turn.
    Several files and ZIP archives are a batch, which is answered with 202, and all of its files wait. Poll the batch,
    or each analysis. A refused file does not stop the others.
    """
    callback_url = query.get("callback_url")
    if callback_url is not None:
        try:
            check_url(callback_url, allow_private=current_app.config["WEBHOOKS_TO_PRIVATE"])
        except ForbiddenAddress as error:
            raise Problem(422, str(error)) from error
    with received_files(query.get("filename")) as files:
        answer = submit_request(files, visitor=g.visitor, callback_url=callback_url, key=headers.get("key"))
    found = list_values(find_analyses(answer, g.visitor))
    replayed = {"Idempotency-Replayed": "true"} if answer.is_replayed else {}
    if answer.batch_id is None:
        return {"batch": None, "analyses": found, "rejected": []}, 201, {"Location": found[0]["url"], **replayed}
    batch = batch_values(_own_batch(answer.batch_id))
    values = {"batch": batch, "analyses": found, "rejected": batch["rejected"]}
    return values, 202, {"Location": batch["url"], **replayed}


@blueprint.get("/analyses")
@blueprint.arguments(schemas.ListQuery, location="query")
@blueprint.response(200, schemas.PageSchema)
@refusals(422)
def list_analyses(query: dict[str, Any]) -> dict[str, Any]:
    """List analyses

    The newest come first. Follow `next_cursor` until it is null.
    """
    page, next_cursor = page_of_analyses(g.visitor, **query)
    return {"analyses": list_values(page), "next_cursor": next_cursor}


@blueprint.get("/analyses/<analysis_id>")
@blueprint.response(200, schemas.AnalysisSchema)
@refusals(404)
def get_analysis(analysis_id: str) -> dict[str, Any]:
    """Read an analysis

    Poll this address until the state is neither `waiting` nor `running`.
    """
    return analysis_values(_own(analysis_id))


@blueprint.delete("/analyses/<analysis_id>")
@blueprint.response(204)
@refusals(404)
def delete_analysis(analysis_id: str) -> None:
    """Delete an analysis and its file"""
    if not analyses.delete(analysis_id, g.visitor):
        raise _not_found()


@blueprint.post("/analyses/<analysis_id>/cancel")
@blueprint.response(200, schemas.AnalysisSchema)
@refusals(404, 409)
def cancel_analysis(analysis_id: str) -> dict[str, Any]:
    """Stop an analysis

    The file stays, and the analysis can be started again.
    """
    _own(analysis_id)
    if not analyses.cancel(analysis_id, g.visitor):
        raise Problem(409, "The analysis is already over.")
    return analysis_values(_own(analysis_id))


@blueprint.post("/analyses/<analysis_id>/retry")
@blueprint.response(200, schemas.AnalysisSchema)
@refusals(404, 409)
def retry_analysis(analysis_id: str) -> dict[str, Any]:
    """Start a cancelled or failed analysis again

    It goes to the end of the queue, and its webhooks are sent again when it is over.
    """
    _own(analysis_id)
    if not analyses.retry(analysis_id, g.visitor):
        raise Problem(409, "Only a cancelled or failed analysis can be started again.")
    _expect_webhooks([analysis_id])
    return analysis_values(_own(analysis_id))


@blueprint.get("/analyses/<analysis_id>/record")
@blueprint.response(200, {"type": "object"}, description="The record.")
@refusals(404, 409)
def get_record(analysis_id: str) -> Response:
    """Read the full record of a result

    It holds everything that was measured, with every frame, as `deepfake-detector scan --json` writes it.
    """
    return jsonify(_done(analysis_id).record)


@blueprint.get("/analyses/<analysis_id>/explanations")
@blueprint.response(200, schemas.ExplanationsSchema)
@refusals(404, 409)
def get_explanations(analysis_id: str) -> dict[str, Any]:
    """Read the heat maps and explanations of a picture"""
    return explanation_values(_done(analysis_id))


@blueprint.post("/analyses/<analysis_id>/explanation-checks")
@blueprint.response(200, schemas.ExplanationsSchema)
@refusals(400, 404, 409, 503)
def check_explanations(analysis_id: str) -> dict[str, Any]:
    """Check the explanation of a picture

    About 700 altered faces are scored, which takes a few seconds. The result is stored, so a second request is free.
    """
    _add_evidence(_done(analysis_id), evidence.run_explanation_checks)
    return explanation_values(_done(analysis_id))


@blueprint.post("/analyses/<analysis_id>/robustness")
@blueprint.response(200, schemas.AnalysisSchema)
@refusals(400, 404, 409, 503)
def measure_robustness(analysis_id: str) -> dict[str, Any]:
    """Score altered copies of a picture

    The scores are in `result.robustness`. They are stored, so a second request is free.
    """
    _add_evidence(_done(analysis_id), evidence.run_robustness_test)
    return analysis_values(_done(analysis_id))


@blueprint.get("/analyses/<analysis_id>/files/<name>")
@blueprint.response(200, BINARY, content_type="image/png", description="The picture, a PNG.")
@blueprint.response(200, BINARY, content_type="image/jpeg", description="The picture, a PNG or a JPEG.")
@refusals(404)
def get_file(analysis_id: str, name: str) -> Response:
    """Read a picture of a result

    Such as a heat map of the explanations, or `thumbnail.jpg`.
    """
    analysis = _own(analysis_id)
    if not page_files.is_served(name):
        raise Problem(404, "There is no such file.")
    try:
        with analyses.open_file(analysis, name) as file:
            return Response(file.read(), mimetype=page_files.media_type_of(name))
    except FileNotFoundError as error:
        raise Problem(404, "There is no such file.") from error


@blueprint.get("/analyses/<analysis_id>/evidence.zip")
@blueprint.arguments(schemas.BundleQuery, location="query")
@blueprint.response(200, BINARY, content_type="application/zip", description="The bundle.")
@refusals(400, 404, 409, 422, 503)
def get_evidence(query: dict[str, bool], analysis_id: str) -> Response:
    """Read the evidence for a verdict as a ZIP archive

    `deepfake-detector verify` checks it.
    """
    analysis = _done(analysis_id)
    if not has_evidence(analysis):
        raise Problem(404, "There is no evidence bundle for a result of the first versions.")
    try:
        file = evidence.build_evidence_bundle(analysis, include_original=query["original"])
    except FileNotFoundError as error:
        raise _not_found() from error
    response = Response(FileWrapper(file), mimetype="application/zip", direct_passthrough=True)
    response.content_length = file.seek(0, io.SEEK_END)
    file.seek(0)
    response.headers.set("Content-Disposition", "attachment", filename=f"evidence-{analysis.upload_sha256[:8]}.zip")
    return response


@blueprint.get("/analyses/<analysis_id>/webhooks")
@blueprint.response(200, schemas.CallsSchema)
@refusals(404)
def get_webhooks(analysis_id: str) -> dict[str, Any]:
    """Read whether the webhooks of an analysis have arrived"""
    _own(analysis_id)
    return {"webhooks": db.session.scalars(select(WebhookCall).filter_by(analysis_id=analysis_id)).all()}


@blueprint.get("/batches")
@blueprint.arguments(schemas.PageQuery, location="query")
@blueprint.response(200, schemas.BatchPageSchema)
@refusals(422)
def list_batches(query: dict[str, Any]) -> dict[str, Any]:
    """List batches

    The newest come first. Follow `next_cursor` until it is null.
    """
    page, next_cursor = page_of_batches(g.visitor, **query)
    return {"batches": [batch_values(each) for each in batches.summarise(page)], "next_cursor": next_cursor}


@blueprint.get("/batches/<batch_id>")
@blueprint.response(200, schemas.BatchSchema)
@refusals(404)
def get_batch(batch_id: str) -> dict[str, Any]:
    """Read how far a batch is

    Poll this address until the state is `done`, then read its analyses at `analyses_url`.
    """
    return batch_values(_own_batch(batch_id))


@blueprint.get(f"/batches/<batch_id>/results.<any({', '.join(FORMATS)}):ending>")
@exported_files
@blueprint.response(200, schemas.ResultsSchema, description="The file.")
@refusals(404)
def get_batch_results(batch_id: str, ending: str) -> Response:
    """Read all results of a batch as one file

    A table as CSV, Excel or PDF, or every record as JSON. The files are in the order as sent, with those that were
    refused and those that are not done yet.
    """
    return send_results(_own_batch(batch_id).batch, ending)


@blueprint.delete("/batches/<batch_id>")
@blueprint.response(204)
@refusals(404)
def delete_batch(batch_id: str) -> None:
    """Delete a batch with all its analyses and files"""
    _own_batch(batch_id)
    batch_files.delete_batch(batch_id, g.visitor)


@blueprint.post("/batches/<batch_id>/cancel")
@blueprint.response(200, schemas.BatchSchema)
@refusals(404, 409)
def cancel_batch(batch_id: str) -> dict[str, Any]:
    """Stop all analyses of a batch that are not over

    The files stay, and the analyses can be started again.
    """
    _own_batch(batch_id)
    if not analyses.cancel_batch(batch_id, g.visitor):
        raise Problem(409, "Every analysis of the batch is already over.")
    return batch_values(_own_batch(batch_id))


@blueprint.post("/batches/<batch_id>/retry")
@blueprint.response(200, schemas.BatchSchema)
@refusals(404, 409)
def retry_batch(batch_id: str) -> dict[str, Any]:
    """Start the cancelled and failed analyses of a batch again

    Their webhooks are sent again when they are over. Refused files are not stored, so they stay refused.
    """
    _own_batch(batch_id)
    restarted = analyses.retry_batch(batch_id, g.visitor)
    if not restarted:
        raise Problem(409, "Only cancelled or failed analyses can be started again.")
    _expect_webhooks(restarted)
    return batch_values(_own_batch(batch_id))


@blueprint.get("/model-card")
@blueprint.response(200, schemas.ModelCardSchema)
@refusals(is_public=True)
def get_model_card() -> dict[str, Any]:
    """Read which models are behind the verdicts, and their errors on unseen kinds"""
    return read_model_card(current_app.config["VISUALIZATIONS"])


@blueprint.get("/health")
@blueprint.response(200, schemas.HealthSchema)
@refusals(is_public=True)
def get_health() -> dict[str, str]:
    """Check that the server responds and reaches its database"""
    db.session.execute(select(1))
    return {"status": "ok", "version": __version__}


def _own(analysis_id: str) -> Analysis:
    analysis = analyses.get(analysis_id, g.visitor)
    if analysis is None:
        raise _not_found()
    return analysis


def _done(analysis_id: str) -> Analysis:
    analysis = _own(analysis_id)
    if analysis.state != State.DONE:
        raise Problem(409, f"The analysis is {analysis.state}, so there is no result.")
    return analysis


def _own_batch(batch_id: str) -> BatchSummary:
    batch = batches.get(batch_id, g.visitor)
    if batch is None:
        raise Problem(404, "There is no such batch, or it belongs to another token.")
    (summary,) = batches.summarise([batch])
    return summary


def _expect_webhooks(restarted: Sequence[str]) -> None:
    """Let analyses that were started again report their new end."""
    webhooks.send_again(restarted)
    current_app.extensions["webhooks"].wake()


def _add_evidence(analysis: Analysis, add: Callable[[Analysis], None]) -> None:
    try:
        add(analysis)
    except FileNotFoundError as error:
        raise _not_found() from error


def _not_found() -> Problem:
    return Problem(404, "There is no such analysis, or it belongs to another token.")
