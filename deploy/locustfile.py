"""A visitor of `scripts/loadtest.py`: opens the start page once, then uploads pictures and opens their results.

PICTURE names the file to upload. A comment makes each upload a file of its own.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from locust import FastHttpUser, constant, task

BOUNDARY = "loadtest-boundary"
JPEG_START_BYTES = 2


class Visitor(FastHttpUser):
    """One of the clients; it waits for an answer before it goes on, and never between two requests."""

    wait_time = constant(0)
    network_timeout = connection_timeout = 120.0

    def on_start(self) -> None:
        """Open the form and keep its token."""
        self.picture = Path(os.environ["PICTURE"]).read_bytes()
        page = self.client.get("/", name="start page").text or ""
        self.token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]

    @task
    def upload(self) -> None:
        """Upload a picture, and open its result."""
        answer = self.client.post(
            "/analyses",
            data=self.form(),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
            allow_redirects=False,
            name="upload",
        )
        if answer.status_code == 303:
            with self.client.get(answer.headers["Location"], name="result page", catch_response=True) as page:
                if 'class="verdict' not in (page.text or ""):
                    page.failure("The page shows no verdict.")

    def form(self) -> bytes:
        """Return the body of an upload."""
        comment = secrets.token_bytes(16)
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        data = self.picture[:JPEG_START_BYTES] + segment + self.picture[JPEG_START_BYTES:]
        return (
            (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{self.token}\r\n'
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="portrait.jpg"\r\n'
                "Content-Type: image/jpeg\r\n\r\n"
            ).encode()
            + data
            + f"\r\n--{BOUNDARY}--\r\n".encode()
        )
