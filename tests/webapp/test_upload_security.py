"""The OWASP File Upload Cheat Sheet, line by line, and what else an attacker tries: sessions, headers, active content.

Source: cheatsheetseries.owasp.org, File Upload Cheat Sheet. The headings below are its sections.
"""

import io
import re
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from PIL import Image
from project import ROOT
from werkzeug.datastructures import FileStorage, Headers

from detector.media import MEDIA
from webapp import analyses
from webapp.headers import DEVICES, SECURITY_HEADERS
from webapp.models import Analysis, Upload, db
from webapp.samples import read_sample
from webapp.storage import Storage

pytestmark = pytest.mark.slow

SCRIPT = b"<script>alert(1)</script>"
HTML = b"<!doctype html><html><body>" + SCRIPT + b"</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
PHP = b"<?php system($_GET['c']); ?>"
SERVED_TYPES = {"image/jpeg", "image/png"} | {kind for media in ("video", "audio") for kind in MEDIA[media].media_types}


def picture(format="PNG", *, side_px=64, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px), "teal").save(buffer, format, **options)
    return buffer.getvalue()


def png_with(kind, body):
    """Return a PNG file with one more chunk before its pixels."""
    png = picture()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def problem(response):
    return re.search(r'id="upload-error"[^>]*>(.*?)</p>', response.text, re.S)[1]


def upload_as(client, data, content_type, name="face.jpg"):
    return client.submit(
        "/analyses", file=FileStorage(io.BytesIO(data), name, headers=Headers({"Content-Type": content_type}))
    )


@pytest.fixture
def is_untouched(app, stored_files):
    """Return a function that returns whether nothing was stored."""

    def check():
        with app.app_context():
            return stored_files() == [] and db.session.query(Analysis).count() == db.session.query(Upload).count() == 0

    return check


# Extension validation, content-type validation, file signature validation

OTHER_KINDS = {
    "page.html": HTML,
    "drawing.svg": SVG,
    "drawing with a declaration.svg": b'<?xml version="1.0"?>\n' + SVG,
    "shell.php": PHP,
    "shell.sh": b"#!/bin/sh\nid\n",
    "program.exe": b"MZ" + bytes(200),
    "program": b"\x7fELF" + bytes(200),
    "paper.pdf": b"%PDF-1.7\n",
    "archive.tar.gz": b"\x1f\x8b\x08" + bytes(60),
    "archive.7z": b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "magick.mvg": b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://example.org/x.jpg\"|id\")'\n",
    "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (w) file\n",
    "playlist.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat.txt": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
}


def test_only_listed_kinds_are_accepted(client, is_untouched):
    for name, data in OTHER_KINDS.items():
        for claimed in (name, "photo.jpg"):
            response = client.upload(data, claimed)
            assert response.status_code == 415 and problem(response).startswith("The file is "), name
    assert is_untouched()


def test_an_archive_that_is_none_stores_nothing(client, is_untouched):
    """A ZIP archive is unpacked as a batch; its limits are tested with the batches."""
    for data in (b"PK\x03\x04" + bytes(60), b"PK\x05\x06" + bytes(18)):
        response = client.upload(data, "photo.jpg")
        assert response.status_code in (400, 413, 415) and problem(response).endswith(".")
    assert is_untouched()


def test_the_extension_of_a_name_decides_nothing(client, stored_files):
    for name in (
        "face.jpg.php",
        "face.php%00.jpg",
        "face.php\x00.jpg",
        "face.pHp5",
        "a.jpg/.php",
        ".htaccess",
        "a.svg",
    ):
        assert client.upload(picture(), name).status_code == 303
        assert client.upload(HTML, name).status_code == 415
    assert not [path for path in stored_files() if "php" in path.lower() or "htaccess" in path or path.endswith("svg")]


def test_the_declared_content_type_decides_nothing(client, app):
    for data in (HTML, SVG, PHP):
        assert upload_as(client, data, "image/jpeg").status_code == 415
    location = upload_as(client, picture(), "text/html").location
    assert client.get(f"{location}/files/picture.jpg").content_type == "image/jpeg"
    with app.app_context():
        assert db.session.query(Upload).one().media_type == "image/png"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe0" + HTML,
        b"\x89PNG\r\n\x1a\n" + HTML,
        b"GIF89a/*" + SCRIPT + b"*/",
        b"BM" + bytes(12) + struct.pack("<I", 40) + HTML,
        b"RIFF\0\0\0\0WEBPVP8 " + HTML,
    ],
    ids=["jpeg", "png", "gif", "bmp", "webp"],
)
def test_a_signature_alone_is_not_enough(client, is_untouched, data):
    response = client.upload(data)
    assert response.status_code == 400 and "cannot be read" in problem(response) and is_untouched()


# Filename sanitization

HOSTILE_NAMES = [
    "../../secret_key",
    "..\\..\\secret_key",
    "/etc/passwd",
    "....//....//secret_key",
    "%2e%2e%2fsecret_key",
    "deepfake.sqlite",
    "CON",
    "NUL.png",
    "aux.",
    "face.png::$DATA",
    "<img src=x onerror=alert(1)>.png",
    "'; DROP TABLE upload; --.png",
    "{{ 7 * 7 }}.png",
    "$(id).png",
    "-rf.png",
    "a" * 5000 + ".png",
    "\u202egnp.exe",
    "\x07\t\x7f.png",
]


def test_stored_names_are_generated_and_displayed_ones_are_short_and_harmless(client, app, stored_files):
    folder = Path(app.instance_path)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.name in {"secret_key", "worker"}}
    for name in HOSTILE_NAMES:
        response = client.upload(picture(), name)
        assert response.status_code == 303
        page = client.get(response.location).text
        assert "<img src=x" not in page and "\u202e" not in page and "49.png" not in page
        with app.app_context():
            shown = db.session.get(Analysis, response.location.rpartition("/")[2]).filename
        assert len(shown) <= analyses.MAX_NAME_CHARACTERS and shown.isprintable() and not set("/\\") & set(shown)
    generated = r"(uploads/[0-9a-f]{64}|analyses/[\w-]{22}/[a-z0-9-]+\.(jpg|png))"
    assert stored_files() and all(re.fullmatch(generated, path) for path in stored_files())
    assert {path: path.read_bytes() for path in before} == before


def test_an_upload_overwrites_no_other_file(client, stored_files, app):
    def read(name):
        with app.extensions["storage"].open(name) as file:
            return file.read()

    client.upload(picture(), "same.png")
    first = {name: read(name) for name in stored_files()}
    client.upload(picture(side_px=80), "same.png")
    client.upload(picture(side_px=80), next(name for name in first if name.startswith("uploads")))
    assert first and {name: read(name) for name in first} == first


# File content validation: image rewriting, polyglots, active content, decompression and XML bombs

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>{doctype}<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:CreatorTool>{text}</xmp:CreatorTool></rdf:Description></rdf:RDF>
</x:xmpmeta>"""
POLYGLOTS = {
    "GIF and script": (picture("GIF")[:6] + b"/*" + picture("GIF")[8:] + b"*/=1;alert(1)", "gif"),
    "GIF and page": (picture("GIF") + HTML, "gif"),
    "JPEG and page": (picture("JPEG") + HTML, "jpg"),
    "JPEG with a page in its comment": (picture("JPEG", comment=HTML), "jpg"),
    "JPEG and archive": (picture("JPEG") + b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18), "jpg"),
    "PNG and PHP": (picture() + PHP, "png"),
    "PNG with PHP in its text": (png_with(b"tEXt", b"Comment\0" + PHP), "png"),
    "BMP and page": (picture("BMP") + HTML, "bmp"),
}


def test_pictures_are_served_rewritten_without_what_else_they_hold(client, stored_files):
    accepted = 0
    for data, suffix in POLYGLOTS.values():
        before = set(stored_files())
        response = client.upload(data, f"face.{suffix}")
        assert response.status_code in (303, 400), problem(response)
        if response.status_code == 400:
            assert problem(response).endswith(".") and set(stored_files()) == before
            continue
        accepted += 1
        for name in (name for name in set(stored_files()) - before if name.startswith("analyses/")):
            answer = client.get(f"{response.location}/files/{name.rpartition('/')[2]}")
            assert answer.status_code == 200 and answer.content_type in {"image/jpeg", "image/png"}
            assert not any(part in answer.data for part in (b"<script", b"<?php", b"<html", b"PK\x03\x04"))
        assert "<script>alert" not in client.get(response.location).text
        assert client.get(f"{response.location}/media").status_code == 404  # the file itself is only in the bundle
    assert accepted >= 5


def test_the_original_file_is_only_sent_as_a_download_inside_an_archive(client):
    location = client.upload(POLYGLOTS["JPEG and page"][0]).location
    bundle = client.get(f"{location}/evidence.zip")
    assert bundle.content_type == "application/zip"
    assert bundle.headers["Content-Disposition"].startswith("attachment; filename=evidence-")
    assert zipfile.ZipFile(io.BytesIO(bundle.data)).testzip() is None


@pytest.mark.parametrize("sample", ["video", "voice"])
def test_a_video_with_a_page_inside_is_sent_as_a_video(client, sample):
    location = client.upload(read_sample(sample) + HTML, "page.html").location
    answer = client.get(f"{location}/media")
    assert answer.content_type in SERVED_TYPES and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "text" not in answer.content_type and "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_metadata_of_the_person_are_not_served(client):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 34.5)  # GPS latitude
    exif[0x013B] = "Jane Doe"  # artist
    location = client.upload(picture("JPEG", exif=exif)).location
    sent = client.get(f"{location}/files/picture.jpg").data
    assert b"Jane" not in sent and not Image.open(io.BytesIO(sent)).getexif()


LAUGHS = "<!DOCTYPE l [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {after} '{f'&{before};' * 10}'>" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
ENTITIES = {
    "billion laughs": XMP.format(doctype=f"{LAUGHS}]>", text="&i;"),
    "external file": XMP.format(doctype='<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>', text="[&f;]"),
    "external address": XMP.format(doctype='<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', text="tool"),
}


@pytest.mark.parametrize("kind", ENTITIES)
def test_entities_in_xmp_are_not_expanded(client, kind):
    started = time.monotonic()
    response = client.upload(picture("JPEG", xmp=ENTITIES[kind].encode()))
    page = client.get(response.location).text
    assert response.status_code == 303 and time.monotonic() - started < 20
    assert "XMP in the file cannot be read" in page and "hahaha" not in page
    assert Path("/etc/hostname").read_text().strip() not in page or kind != "external file"


def bombs():
    zeros = zlib.compress(bytes(80_000_000), 9)
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    large = png_with(b"tEXt", b"a\0b")
    yield "pixels", large[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + large[33:]
    yield "text", png_with(b"zTXt", b"Comment\0\0" + zeros)
    yield "international text", png_with(b"iTXt", b"Comment\0\1\0\0\0" + zeros)
    yield "colour profile", png_with(b"iCCP", b"icc\0\0" + zeros)
    gif = bytearray(picture("GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "canvas", bytes(gif)


BOMBS = dict(bombs())


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_fills_no_memory(client, kind, stored_files):
    client.upload(picture())  # loads the model
    before = stored_files()
    tracemalloc.start()
    response = client.upload(BOMBS[kind], "bomb.png")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 30_000_000
    if response.status_code != 303:
        assert response.status_code in (400, 413) and problem(response).endswith(".") and stored_files() == before


# Upload and download limits


@pytest.mark.parametrize(("medium", "head"), [("MAX_UPLOAD_MB", b"\xff\xd8\xff"), ("MAX_RECORDING_MB", b"fLaC")])
def test_each_medium_has_a_limit_of_its_own(make_app, medium, head):
    client = make_app(**{"MAX_UPLOAD_MB": 2, "MAX_RECORDING_MB": 2, medium: 1}).test_client()
    response = client.upload(head + bytes(1_000_001))
    assert response.status_code == 413 and "at most 1 MB" in problem(response)


def test_a_request_over_the_limit_is_refused_before_it_is_read(make_app):
    client = make_app(MAX_UPLOAD_MB=1, MAX_RECORDING_MB=1).test_client()
    body = Mock(wraps=io.BytesIO(b"--x\r\n"))
    response = client.post(
        "/analyses",
        input_stream=body,
        content_type="multipart/form-data; boundary=x",
        environ_overrides={"CONTENT_LENGTH": str(10**12)},
    )
    assert response.status_code == 413 and not [call for call in body.mock_calls if "read" in call[0]]


@pytest.mark.parametrize(
    "fields", [{str(number): "x" for number in range(2000)}, {"csrf_token": "x" * 1_000_000}], ids=["many", "long"]
)
def test_a_form_with_too_many_or_too_long_fields_is_refused(client, fields):
    response = client.submit("/analyses", **fields)
    assert response.status_code == 413 and problem(response)


# File storage location, file system permissions


def test_no_address_reaches_the_storage(client, app, stored_files):
    client.upload(picture())
    folder = Path(app.instance_path)
    assert not folder.is_relative_to(app.static_folder) and not Path(app.static_folder).is_relative_to(folder)
    for name in [*stored_files(), "secret_key", "deepfake.sqlite"]:
        for address in (f"/{name}", f"/storage/{name}", f"/instance/{name}", f"/static/../instance/{name}"):
            assert client.get(address).status_code == 404
        for step in ("../" * 6, "..%2f" * 6, "%2e%2e/" * 6, "....//" * 6, "..%5c" * 6):
            for base in ("/static/", "/visualizations/"):
                assert client.get(f"{base}{step}{str(folder).lstrip('/')}/{name}").status_code == 404


def test_a_result_serves_only_its_own_files_by_listed_names(client, stored_files):
    location = client.upload(picture()).location
    other = client.upload(picture(side_px=70)).location.rpartition("/")[2]
    for name in (
        f"../{other}/picture.jpg",
        f"..%2f{other}%2fpicture.jpg",
        "../../uploads/x",
        "picture.jpg%00.html",
        "picture.jpg/",
        "PICTURE.JPG",
        *(name for name in stored_files() if name.startswith("uploads/")),
    ):
        assert client.get(f"{location}/files/{name}").status_code == 404


def test_stored_files_belong_to_the_server_alone_and_cannot_be_executed(client, app, tmp_path):
    client.upload(picture())
    folder = Path(app.instance_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    for path in (folder / "storage").rglob("*"):
        assert path.is_dir() or not path.stat().st_mode & 0o111
    Storage(str(tmp_path / "elsewhere")).save("uploads/x", b"")
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o700


# User permissions, cross-site requests


def own_addresses(app, location):
    """Return (method, address) of every route of one result."""
    analysis_id = location.rpartition("/")[2]
    for rule in app.url_map.iter_rules():
        if "analysis_id" in rule.arguments:
            values = dict.fromkeys(rule.arguments, "picture.jpg") | {"analysis_id": analysis_id}
            address = re.sub(r"<(?:\w+:)?(\w+)>", lambda part, values=values: values[part[1]], rule.rule)
            yield from ((method, address) for method in sorted(rule.methods - {"HEAD", "OPTIONS"}))


def test_nobody_else_reaches_a_result_by_any_route(app):
    owner, stranger = app.test_client(), app.test_client()
    location = owner.upload(picture()).location
    addresses = list(own_addresses(app, location))
    assert len(addresses) >= 9
    for method, address in addresses:
        answer = stranger.get(address) if method == "GET" else stranger.submit(address)
        assert answer.status_code in (401, 404, 405), (method, address)  # 401: the API needs a token
    assert owner.get(location).status_code == 200


def test_every_form_of_every_route_needs_the_token_of_its_session(app):
    client = app.test_client()
    client.upload(picture())
    elsewhere = re.search(r'name="csrf_token" value="([^"]+)"', app.test_client().get("/").text)[1]
    changing = [rule for rule in app.url_map.iter_rules() if rule.methods & {"POST", "PUT", "PATCH", "DELETE"}]
    assert len(changing) >= 7
    for rule in changing:
        address = re.sub(r"<[^>]+>", "x", rule.rule)
        for method in rule.methods & {"POST", "PUT", "PATCH", "DELETE"}:
            for token in ({}, {"csrf_token": elsewhere}):
                answer = client.open(address, method=method, data=token)
                assert answer.status_code in (400, 401), (method, address)


# Libraries


def test_pictures_are_opened_only_as_their_own_type_and_xml_by_a_safe_parser():
    """A file that is one type to us and another to Pillow would reach a reader that nobody meant to offer."""
    for path in [*(ROOT / "detector").rglob("*.py"), *(ROOT / "webapp").rglob("*.py")]:
        source = path.read_text()
        for call in re.findall(r"\bImage\.open\((?:[^()]|\([^()]*\))*\)", source):
            assert "formats=[" in call, (path, call)
        assert not re.search(r"(import|from) (xml|lxml|pickle|marshal|shelve|yaml)\b", source), path


def test_the_libraries_that_read_uploads_are_pinned():
    lock = (ROOT / "requirements-serve.txt").read_text()
    for package in ("pillow", "av", "opencv-python-headless", "defusedxml", "werkzeug", "c2pa-python"):
        assert re.search(rf"^{package}=={re.escape(metadata.version(package))}\b", lock, re.MULTILINE)


# Sessions


def cookie_of(client):
    return client.get_cookie("session")


def test_a_visitor_cannot_choose_a_session(app):
    """Neither an address nor a cookie without our signature names a visitor, so none can be prepared for a victim."""
    owner = app.test_client()
    location = owner.upload(picture()).location
    with app.app_context():
        visitor = db.session.query(Analysis).one().visitor
    forger = Flask("forger", static_folder=None)
    forger.secret_key = "a guess of the attacker"
    forged = SecureCookieSessionInterface().get_signing_serializer(forger).dumps({"visitor": visitor})
    for value in (forged, visitor, forged.rpartition(".")[0], ""):
        stranger = app.test_client()
        stranger.set_cookie("session", value)
        assert stranger.get(location).status_code == 404
        assert stranger.get("/").status_code == 200 and cookie_of(stranger).value != value  # a new session
    assert app.test_client().get(f"{location}?visitor={visitor}&session={cookie_of(owner).value}").status_code == 404


def test_sessions_are_long_random_and_never_shared(app):
    visitors = set()
    for _ in range(50):
        client = app.test_client()
        client.get("/")
        with client.session_transaction() as session:
            visitors.add(session["visitor"])
    assert len(visitors) == 50 and all(re.fullmatch(r"[\w-]{22}", visitor) for visitor in visitors)


def test_under_https_no_other_host_can_plant_the_cookie(make_app):
    """A name with __Host- is accepted by browsers only from this host, for all paths, over https."""
    answer = make_app(COOKIE_SECURE="true").test_client().get("/", base_url="https://localhost")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=") and "Secure" in cookie and "Path=/" in cookie
    assert "Domain" not in cookie


# Headers of every route


PUBLIC_FILES = {"static", "pages.favicon", "pages.plot"}  # the same for everybody


def test_every_route_and_every_error_carries_the_security_headers(client, app):
    location = client.upload(picture()).location
    values = {"analysis_id": location.rpartition("/")[2], "filename": "style.css", "name": "picture.jpg"}
    seen = set()
    for rule in app.url_map.iter_rules():
        address = re.sub(r"<(?:\w+:)?(\w+)>", lambda part: values.get(part[1], "x"), rule.rule)
        for method in sorted(rule.methods | {"PUT", "TRACE"}):
            answer = client.open(address, method=method)
            seen.add(answer.status_code)
            expected = SECURITY_HEADERS
            if b'id="uploader"' in answer.data or (rule.endpoint, method) == ("pages.upload", "HEAD"):
                expected = SECURITY_HEADERS | {"Permissions-Policy": DEVICES.format("(self)")}
            elif rule.endpoint == "reports.page" and method in ("GET", "HEAD"):  # no script at all
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
                assert "script-src" not in policy
                expected = SECURITY_HEADERS | {"Content-Security-Policy": policy}
            elif rule.endpoint.startswith("sharing."):
                expected = SECURITY_HEADERS | {"Referrer-Policy": answer.headers["Referrer-Policy"]}
                assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer")
            assert {name: answer.headers.get(name) for name in expected} == expected, (method, address)
            assert all(len(answer.headers.getlist(name)) == 1 for name in expected)
            if rule.endpoint not in PUBLIC_FILES:
                assert "no-store" in answer.headers["Cache-Control"], (method, address)
            assert answer.status_code < 500 and "Access-Control-Allow-Origin" not in answer.headers
    assert {200, 400, 404, 405} <= seen


def test_the_policy_runs_no_script_of_an_upload():
    policy = dict(part.split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["form-action"] == "'self'" and "object-src" not in policy
    assert "unsafe" not in str(policy) and "data:" not in str(policy) and "*" not in str(policy)
    assert SECURITY_HEADERS["X-Content-Type-Options"] == "nosniff" and SECURITY_HEADERS["X-Frame-Options"] == "DENY"
