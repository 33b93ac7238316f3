"""The statistics pages, and the command that prints those of all visitors."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import click
from flask import Blueprint, abort, current_app, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirection

from detector.text import format_bytes, format_count, translatable
from webapp.statistics.charts import draw_counts
from webapp.statistics.counts import count_everyone, count_own

OPERATOR = "operator"  # in the session: proof that the operator's token was given

statistics = Blueprint("statistics", __name__, cli_group=None)


@statistics.get("/statistics")
def own() -> str:
    """Show the statistics of the visitor's own results."""
    counts = count_own(session.get("visitor"))
    return render_template("statistics.html", counts=counts, charts=draw_counts(counts), is_operator=False)


@statistics.get("/operator")
def everyone() -> str:
    """Show the statistics of all visitors to the operator, or the form for the token."""
    if not hmac.compare_digest(session.get(OPERATOR, ""), _proof()):
        return render_template("operator.html")
    counts = count_everyone()
    return render_template("statistics.html", counts=counts, charts=draw_counts(counts), is_operator=True)


@statistics.post("/operator")
def enter() -> Redirection | tuple[str, int]:
    """Compare the operator's token, and keep in the session that it was given."""
    proof = _proof()
    # Texts of different length are compared as their hashes, so the time shows nothing about the token.
    if not hmac.compare_digest(_hash(request.form.get("token", "")), proof):
        error = translatable("This is not the operator’s token.")
        return render_template("operator.html", error=error), 403
    session[OPERATOR] = proof
    return redirect(url_for("statistics.everyone"), 303)


@statistics.post("/operator/leave")
def leave() -> Redirection:
    """Forget that the token was given."""
    _proof()
    session.pop(OPERATOR, None)
    return redirect(url_for("statistics.everyone"), 303)


@statistics.cli.command("statistics")
def print_statistics() -> None:
    """Print the statistics of all visitors' results."""
    counts = count_everyone()
    files = f"{format_count(counts.n)} results of {format_count(counts.n_visitors)} visitors"
    click.echo(f"{files}, {format_bytes(counts.stored_bytes)} of files stored.")
    for drawn in draw_counts(counts):
        click.echo(f"\n{drawn.plot.title}: {drawn.chart.panels[0].label}")
        click.echo(aligned([drawn.chart.head, *drawn.chart.rows]))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, with its columns one below the other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _proof() -> str:
    """Return what the session holds once the token was given; another token or key makes it worthless.

    Raises:
        NotFound: no token is set, so there is no such page.
    """
    return _hash(current_app.config["OPERATOR_TOKEN"] or abort(404))


def _hash(token: str) -> str:
    return hmac.digest(current_app.config["SECRET_KEY"].encode(), f"operator {token}".encode(), "sha256").hex()
