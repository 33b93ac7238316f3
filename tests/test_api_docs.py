"""The commands and the lines of Python in docs/api-http.md, run against a real server."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import make_sound
from project import ROOT
from voices import speak

from webapp.api.webhooks import sign

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "api-http.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
LIMIT_S = 120


@pytest.fixture(scope="module")
def run(tmp_path_factory, start_server, face_jpeg):
    """Return a function that runs a command of the docs beside its files, against a server with a token."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "face.jpg").write_bytes(face_jpeg)
    (folder / "voice.flac").write_bytes(make_sound(speak(3.0), format="flac", codec="flac"))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "DEEPFAKE_INSTANCE_PATH": str(folder / "instance"), "PATH": programs}
    with start_server(folder, WEB_CONCURRENCY="1") as (address, _):

        def run(*command, **options):
            command = [part.replace("http://127.0.0.1:5000", address) for part in command]
            ran = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return ran.stdout

        made = run("sh", "-c", SHELL[0], cwd=ROOT)
        environment["TOKEN"] = re.search(r"Token: +(\S+)", made)[1]
        assert "my program" in made.splitlines()[-1]
        run.folder = folder
        yield run


def test_the_lines_of_python_print_a_verdict(run):
    assert len([line for line in PYTHON[0].splitlines() if line]) == 5
    program = f"import os; token = os.environ['TOKEN']\n{PYTHON[0]}{PYTHON[1]}"
    picture, recording = run(sys.executable, "-c", program, cwd=run.folder).splitlines()
    assert re.match(r"(Inconclusive|This is a \w+ Image!) 0\.\d+ On kinds", picture)
    assert re.match(r"Inconclusive|This is a \w+ Voice!|Could not be checked: ", recording)


def test_the_lines_of_python_for_several_files_print_a_verdict_of_each(run):
    program = f"import os, time; token = os.environ['TOKEN']\n{PYTHON[0].partition('answer')[0]}{PYTHON[2]}"
    recording, picture = run(sys.executable, "-c", program, cwd=run.folder).splitlines()
    assert re.match(r"voice.flac (Inconclusive|This is a \w+ Voice!|Could not be checked: )", recording)
    assert re.match(r"face.jpg (Inconclusive|This is a \w+ Image!)", picture)


@pytest.mark.skipif(not shutil.which("curl"), reason="The lines of curl need curl: apt-get install curl")
def test_the_lines_of_curl_send_and_list_files(run):
    form, batches, body, listed, card = SHELL[1].splitlines()
    sent = json.loads(run("sh", "-c", form, cwd=run.folder))
    assert [each["filename"] for each in sent["analyses"]] == ["face.jpg", "voice.flac"]
    assert sent["batch"]["id"] in run("sh", "-c", batches, cwd=run.folder)
    assert '"verdict":' in run("sh", "-c", body, cwd=run.folder)
    assert '"state":"done"' in run("sh", "-c", listed, cwd=run.folder)
    assert '"deepfake_called_real"' in run("sh", "-c", card, cwd=run.folder)


def test_a_scan_by_a_server_writes_the_same_table(run, face_jpeg):
    run("sh", "-c", SHELL[2], cwd=run.folder)
    run(sys.executable, "-m", "detector", "scan", "face.jpg", "--csv", "here.csv", cwd=run.folder)
    there, here = (list(csv.reader((run.folder / name).read_text().splitlines())) for name in ("out.csv", "here.csv"))
    assert there[0] == here[0] and len(there) == len(here) == 2
    differing = {name for name, one, other in zip(here[0], there[1], here[1], strict=True) if one != other}
    assert differing <= {"elapsed_ms", "logit", "probability"}
    assert float(there[1][here[0].index("logit")]) == pytest.approx(float(here[1][here[0].index("logit")]), abs=1e-3)


def test_the_receiver_of_the_docs_accepts_our_signature_and_no_other():
    names = {}
    exec(PYTHON[3], names)  # noqa: S102 (the code of the docs)

    now, secret = str(int(time.time())), "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
    headers = {"webhook-id": "a", "webhook-timestamp": now, "webhook-signature": sign(secret, "a", now, b"{}")}
    assert names["is_genuine"](headers, b"{}", secret)
    assert not names["is_genuine"](headers, b"{} ", secret)
    assert not names["is_genuine"]({**headers, "webhook-id": "b"}, b"{}", secret)
    old = str(int(now) - 600)
    replayed = {**headers, "webhook-timestamp": old, "webhook-signature": sign(secret, "a", old, b"{}")}
    assert not names["is_genuine"](replayed, b"{}", secret)
