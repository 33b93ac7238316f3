"""The addresses of a result's files: on its owner's page, or below the link through which it is shared."""

from __future__ import annotations

from flask import g, url_for

from webapp.models import Analysis


def file_address(analysis: Analysis, name: str) -> str:
    """Return the address of a file that was drawn for a page, see `webapp.page_files`."""
    if token := g.get("share_token"):
        return url_for("sharing.file", token=token, name=name)
    return url_for("pages.page_file", analysis_id=analysis.id, name=name)


def media_address(analysis: Analysis) -> str:
    """Return the address of an uploaded video or recording."""
    if token := g.get("share_token"):
        return url_for("sharing.media", token=token)
    return url_for("pages.media", analysis_id=analysis.id)
