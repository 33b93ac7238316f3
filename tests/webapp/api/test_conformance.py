"""Schemathesis sends what the OpenAPI document allows and forbids, and compares the answers with the document."""

import os
import subprocess
import sys
import threading

import pytest
from project import ROOT
from werkzeug.serving import make_server

from webapp.api.tokens import create_token

MAX_EXAMPLES = 3  # of an operation, beside the border cases of each parameter
LIMIT_S = 480  # a busy machine is slow


@pytest.mark.slow
def test_schemathesis_finds_no_violation(make_app, tmp_path):
    app = make_app(API_RATE="off", API_ADDRESS_RATE="off")
    with app.app_context():
        _, token = create_token("schemathesis")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    address = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_pictures", "PYTHONPATH": str(ROOT / "tests" / "support")}
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/v1/openapi.json"]
    command += ["--header", f"Authorization: Bearer {token}", "--max-examples", str(MAX_EXAMPLES), "--seed", "1"]
    command += ["--generation-database", "none", "--continue-on-failure", "--no-color"]
    try:
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **hooks},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    assert "21 selected / 21 total" in run.stdout and "Tested: 21" in run.stdout
