"""Pictures, the real detector and the real application; every test writes into a folder of its own."""

import copy
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from clips import make_sound, make_video, pan_over
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from PIL import Image
from project import ROOT
from remembered_scores import remember_scores
from services import HOW_TO_GET_THEM, are_installed, run_services
from voices import speak
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from detector import load_detector
from detector.pictures.faces import FaceFinder
from webapp import create_app
from webapp.detector_thread import DetectorThread
from webapp.models import db
from webapp.wakeable import WakeableThread

START_S = 60  # a busy machine starts slowly
THREAD_S = 2  # for a thread of an application to end; one that sends webhooks goes on as long as some wait


class Browser(FlaskClient):
    """A visitor that sends forms like a browser, with the token of the start page."""

    def open(self, *arguments, **options):
        return super().open(*arguments, **{"buffered": True, **options})  # so that files are closed at once

    def submit(self, address, **fields):
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/").text)[1]
        boundary, body = encode_multipart({"csrf_token": token, **fields})
        return self.post(address, data=body, content_type=f"multipart/form-data; boundary={boundary}")

    def upload(self, data, name="face.jpg"):
        return self.submit("/analyses", file=FileStorage(io.BytesIO(data), name))


def pytest_collection_modifyitems(items):
    """Begin with the files that have the most slow tests, so that no process waits at the end for a long file."""
    slow = Counter(item.path for item in items if any(map(item.get_closest_marker, ("slow", "browser"))))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def astronaut():
    """NASA's portrait of Eileen Collins, 512 x 512, one face."""
    return Image.open(metadata.distribution("scikit-image").locate_file("skimage/data/astronaut.png")).convert("RGB")


@pytest.fixture(scope="session")
def portrait(astronaut):
    """The same as (512, 512, 3) uint8 RGB."""
    return np.asarray(astronaut)


@pytest.fixture(scope="session")
def finder():
    return FaceFinder(threads=2)


@pytest.fixture(scope="session")
def face_jpeg(astronaut):
    buffer = io.BytesIO()
    astronaut.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def real_detector():
    """The shipped detector; faces that a test before has scored are not scored again."""
    detector = load_detector(threads=1)  # the test processes share the cores
    remember_scores(detector.pictures.engine)
    return detector


@pytest.fixture(scope="session")
def picture_detector(real_detector):
    return real_detector.pictures


@pytest.fixture(scope="session")
def start_server():
    """Return a context manager that runs gunicorn in a folder of its own and gives the address and the log."""

    @contextmanager
    def start(folder, **settings):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPFAKE_", "GUNICORN_"))}
        environment = {**kept, "DEEPFAKE_INSTANCE_PATH": str(folder / "instance"), "WEB_CONCURRENCY": "2", **settings}
        log = folder / "log"
        with open(log, "w") as output:
            command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app"]
            server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=output)
        try:
            until = time.monotonic() + START_S
            while not (found := re.search(r"Listening at: (http://\S+)", log.read_text())):
                assert server.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield found[1], log
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(START_S)
        assert code == 0 and "Traceback" not in log.read_text(), log.read_text()

    return start


@pytest.fixture(scope="session")
def services(tmp_path_factory):
    """Real PostgreSQL, Redis and S3."""
    if not are_installed():
        pytest.skip(HOW_TO_GET_THEM)
    with run_services(tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture
def shared(services, monkeypatch):
    """Settings of a server whose database and storage are PostgreSQL and S3."""
    for name, value in services.s3.items():
        monkeypatch.setenv(name, value)
    return services.settings()


@pytest.fixture
def parts(request):
    """Settings of the database and the storage: none, or with DEEPFAKE_TEST_SHARED=1 the shared ones."""
    is_shared = os.environ.get("DEEPFAKE_TEST_SHARED") and not request.node.get_closest_marker("embedded")
    return request.getfixturevalue("shared") if is_shared else {}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A file of SQLite with the newest tables; the migrations take half of the time in which an application starts."""
    folder = tmp_path_factory.mktemp("database")
    with create_app({"INSTANCE_PATH": folder, "JOBS": "off"}).app_context():
        db.engine.dispose()  # writes everything into the one file
    return folder / "deepfake.sqlite"


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory):
    """Jinja's cache of compiled templates, which all applications share."""
    return FileSystemBytecodeCache(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def make_app(tmp_path, real_detector, parts, empty_database, compiled_templates):
    """Return `create_app` with the real detector and a temporary instance folder; it starts no process.

    An instance folder of the test's own is left as it is; the usual one begins with an empty database.
    """
    made, usual = [], tmp_path / "instance"

    def make(**settings):
        values = {"INSTANCE_PATH": usual, "JOBS": "off", **parts, **settings}
        if values["INSTANCE_PATH"] == usual and not usual.exists():
            usual.mkdir(mode=0o700)
            shutil.copy(empty_database, usual)
        app = create_app(values, detector=real_detector)
        app.jinja_env.bytecode_cache = compiled_templates
        app.test_client_class = Browser
        made.append(app)
        return app

    yield make
    for app in made:
        for thread in app.extensions.values():
            if isinstance(thread, WakeableThread):
                thread.join(THREAD_S)  # a connection that it holds would not be closed
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def stored_files(app):
    """Return a function that lists the files in the storage."""
    storage = app.extensions["storage"]
    root = storage._root
    return lambda: sorted(path.removeprefix(f"{root}/") for path in storage._files.find(root))


@pytest.fixture
def force_verdict(app, real_detector):
    """Return a function that moves the two thresholds so that any picture with a face gets the given verdict."""

    def move(verdict):
        low, high = {"real": (1, 1), "deepfake": (0, 0), "inconclusive": (0, 1)}[verdict]
        detector = copy.copy(real_detector)
        pictures = detector.pictures = copy.copy(real_detector.pictures)
        pictures.engine = copy.copy(pictures.engine)
        calibration = replace(pictures.engine.spec.calibration, threshold_real=low, threshold_fake=high)
        pictures.engine.spec = replace(pictures.engine.spec, calibration=calibration)
        app.extensions["detector"] = DetectorThread(detector=detector)

    return move


@pytest.fixture(scope="module")
def chromium():
    """A running browser; `address` of the test file is the server's."""
    from browser import run_chromium

    with run_chromium() as browser:
        yield browser


@pytest.fixture(params=[True, False], ids=["with script", "without script"])
def page(request, chromium, address):
    """The start page for a new visitor, with and without JavaScript."""
    from browser import opened

    with opened(chromium, address, java_script_enabled=request.param) as page:
        yield page


@pytest.fixture
def scripted(chromium, address):
    """The start page for a new visitor, with JavaScript."""
    from browser import opened

    with opened(chromium, address) as page:
        yield page


@pytest.fixture(scope="module")
def face_file(tmp_path_factory, face_jpeg):
    path = tmp_path_factory.mktemp("pictures") / "me.jpg"
    path.write_bytes(face_jpeg)
    return path


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory, portrait):
    """Ten seconds of a camera that moves over the astronaut, and a cut in the middle; WebM plays in any Chromium."""
    path = tmp_path_factory.mktemp("clips") / "trip.webm"
    frames = [*pan_over(portrait, 40), *pan_over(255 - portrait[:, ::-1], 10), *pan_over(portrait, 50)]
    path.write_bytes(make_video(frames, fps=10, format="webm", codec="libvpx"))
    return path


@pytest.fixture(scope="session")
def sound_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds") / "memo.flac"
    path.write_bytes(make_sound(speak(4.0), format="flac", codec="flac"))
    return path
