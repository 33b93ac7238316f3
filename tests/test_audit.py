"""`make audit`, against a stand-in of the advisory service that answers as osv.dev does."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from project import ROOT

pytestmark = pytest.mark.slow


@contextmanager
def advisory_service(*vulnerable):
    """Run a service that knows the named (package, version) as vulnerable; gives its address and what it was sent."""
    seen = {}

    class Advisories(BaseHTTPRequestHandler):
        def do_POST(self):
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            seen[name] = query["version"]
            package = {"name": name, "ecosystem": "PyPI"}
            entry = {"id": f"PYSEC-1-{name}", "summary": "made up", "affected": [{"package": package}]}
            body = json.dumps({"vulns": [entry]} if (name, query["version"]) in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def audit(address):
    return subprocess.run(
        [str(ROOT / ".ci" / "audit"), "--vulnerability-service", "osv", "--osv-url", address],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


KNOWN = ("jinja2", "2.11.2")


@pytest.mark.parametrize("package", [None, "mypy"], ids=["all fine", "one vulnerable"])
def test_every_pinned_package_is_looked_up_and_a_vulnerable_one_fails_the_audit(package):
    pins = {}
    for path in ROOT.glob("requirements*.txt"):
        pins |= dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)(?: +#.*)?$", path.read_text(), re.MULTILINE))
    with advisory_service(KNOWN, (package, pins.get(package))) as (address, seen):
        run = audit(address)
    assert {name.replace(".", "-"): version for name, version in pins.items()}.items() <= seen.items()
    assert run.returncode == (package is not None) and (f"PYSEC-1-{package}" in run.stdout) is (package is not None)


def test_without_the_service_one_sentence_says_so():
    run = audit("http://127.0.0.1:9")
    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr == "The advisory service cannot be reached from here, so no package was audited.\n"
