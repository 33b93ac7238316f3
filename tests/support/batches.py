"""Uploads of several files, and their analysis without a process of its own."""

import io
import re
import zipfile

from werkzeug.datastructures import FileStorage

from webapp import analyses, jobs


def send(client, files, **fields):
    """Send (name, bytes) pairs in one form; returns the response."""
    return client.submit("/analyses", file=[FileStorage(io.BytesIO(data), name) for name, data in files], **fields)


def zip_of(files, method=zipfile.ZIP_DEFLATED):
    """Return a ZIP archive of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def run_all(app, real_detector):
    """Analyse everything that waits."""
    with app.app_context():
        while (analysis_id := analyses.claim()) is not None:
            jobs.run(analysis_id, lambda: real_detector)


def table_of(page):
    """Return (number, name, badge) of the rows of a batch's page."""
    rows = re.findall(r'<tr id="row-\d+">.*?</tr>', page, re.DOTALL)
    return [
        (
            int(re.search(r'<td class="number">(\d+)<', row)[1]),
            re.search(r'class="file-name"[^>]*>([^<]*)<', row)[1],
            re.search(r'class="badge (\w+)"', row)[1],
        )
        for row in rows
    ]
