import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from certificates import root_certificate, sign
from PIL import Image

from detector.provenance import credentials
from detector.provenance.credentials import Trust, read_credentials
from detector.results import UnreadableMedia

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif")
MARK = b"jumdc2pa"  # files without it are not passed to the library


@pytest.fixture(scope="module")
def pictures():
    """Return the same noise as a file of each type."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    found = {}
    for media_type in MEDIA_TYPES:
        buffer = io.BytesIO()
        noise.save(buffer, media_type.partition("/")[2])
        found[media_type] = buffer.getvalue()
    return found


@pytest.fixture(scope="module")
def signed_png(pictures):
    return sign(pictures["image/png"], "image/png")[0]


def altered(data, mark, offset=0):
    changed = bytearray(data)
    changed[data.index(mark) + offset] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_signed_picture_is_intact(media_type, pictures):
    data, _ = sign(pictures[media_type], media_type, source_type="trainedAlgorithmicMedia")
    seen = read_credentials(data, media_type)
    assert seen.is_intact and seen.problems == () and seen.trust is Trust.UNCHECKED
    assert seen.signer == "Test Maker, Camera of the Tests" and seen.made_by == "Generator of the Tests 1.0"
    assert seen.actions == ("c2pa.created",) and seen.source_types == ("trainedAlgorithmicMedia",)


@pytest.mark.parametrize("is_intact", [True, False])
@pytest.mark.parametrize(
    ("list_of", "trust"), [("root", Trust.TRUSTED), ("stranger", Trust.UNTRUSTED), (None, Trust.UNCHECKED)]
)
def test_integrity_and_trust_are_independent(list_of, trust, is_intact, signed_png):
    data = signed_png if is_intact else altered(signed_png, b"IDAT", 100)
    seen = read_credentials(data, "image/png", trust_anchors=list_of and root_certificate(list_of))
    assert (seen.is_intact, seen.trust) == (is_intact, trust)


@pytest.mark.parametrize(
    ("mark", "offset", "problem"),
    [
        (b"IDAT", 100, "assertion.dataHash.mismatch"),  # a pixel
        (b"Generator of the Tests", 0, "claimSignature.mismatch"),  # the claim
        (b"c2pa.created", 0, "assertion.hashedURI.mismatch"),  # an assertion
    ],
)
def test_one_altered_byte_is_named(mark, offset, problem, signed_png):
    seen = read_credentials(altered(signed_png, mark, offset), "image/png")
    assert not seen.is_intact and problem in seen.problems


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_damaged_credentials_are_reported_as_damaged(cut, signed_png):
    start = signed_png.index(MARK)
    with pytest.raises(UnreadableMedia, match="C2PA"):
        read_credentials(signed_png[: start + int(1000 * cut)], "image/png")


def test_a_picture_without_credentials_does_not_load_the_library(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert read_credentials(pictures["image/jpeg"], "image/jpeg") is None
    with pytest.raises(ImportError):
        read_credentials(pictures["image/jpeg"] + MARK, "image/jpeg")


def test_nothing_is_fetched(pictures, monkeypatch):
    asked = []

    class Manifests(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(manifest)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Manifests) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
        data, manifest = sign(pictures["image/jpeg"], "image/jpeg", remote_url=address)
        assert read_credentials(data, "image/jpeg") is None
        with pytest.raises(UnreadableMedia):
            read_credentials(data + MARK, "image/jpeg")  # the library is called now
        assert asked == []
        for left_out in ("verify", "core"):  # either setting alone is enough
            monkeypatch.setattr(credentials, "OFFLINE", {**credentials.OFFLINE, left_out: {}})
            with pytest.raises(UnreadableMedia):
                read_credentials(data + MARK, "image/jpeg")
            assert asked == []
            monkeypatch.undo()
        monkeypatch.setattr(credentials, "OFFLINE", {"version": 1})  # without them the manifest is fetched
        assert read_credentials(data + MARK, "image/jpeg").signer and asked == ["/manifest.c2pa"]
        server.shutdown()


def test_no_file_is_left_behind(signed_png, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    read_credentials(signed_png, "image/png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "report",
    [
        "{}",
        "[]",
        "null",
        "{",
        '{"active_manifest": "a", "manifests": {"a": {"assertions": [7]}}, "validation_results": {}}',
        '{"active_manifest": [], "manifests": {}}',
    ],
)
def test_an_invalid_report_is_reported_as_damage(report, signed_png, monkeypatch):
    import c2pa

    monkeypatch.setattr(c2pa.Reader, "json", lambda reader: report)
    with pytest.raises(UnreadableMedia, match="C2PA"):
        read_credentials(signed_png, "image/png")


def test_a_too_long_report_is_not_read(signed_png, monkeypatch):
    monkeypatch.setattr(credentials, "MAX_REPORT_CHARACTERS", 100)
    with pytest.raises(UnreadableMedia, match="C2PA"):
        read_credentials(signed_png, "image/png")
