"""The web application: upload a file, get a verdict with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from detector import Detector
from webapp.addresses import file_address, media_address
from webapp.analyses import MEGABYTE
from webapp.api import register_api
from webapp.batches.pages import batches
from webapp.config import CELERY, PREFIX, PROJECT, StartupError, load_settings
from webapp.detector_thread import DetectorThread
from webapp.errors import SIZE_LIMITS, register_errors
from webapp.feedback.pages import feedback
from webapp.file_removal import FileRemoval
from webapp.headers import SessionCookie, add_security_headers
from webapp.history.pages import history
from webapp.instance import load_or_create_secret_key, prepare_instance_folder, startup_lock
from webapp.jobs import Supervisor, worker_id
from webapp.languages import register_languages
from webapp.memory import return_large_buffers
from webapp.model_file import load_configured_detector
from webapp.models import connect_database
from webapp.operations import register_operations
from webapp.outages import register_outages
from webapp.pages import site
from webapp.rate_limits import register_limits
from webapp.reports import downloads
from webapp.retention import register_retention
from webapp.schema import upgrade_database
from webapp.sharing.pages import sharing
from webapp.statistics.pages import statistics
from webapp.storage import Storage
from webapp.template_filters import FILTERS

if TYPE_CHECKING:
    from webapp.task_queue import TaskQueue

FORM_OVERHEAD_BYTES = 1_000_000  # of the names of many files


def create_app(settings: Mapping[str, Any] | None = None, *, detector: Detector | None = None) -> Flask:
    """Build the application.

    Args:
        settings: values that replace those of the environment, by the names in `config.SETTINGS`.
        detector: a loaded detector; None loads the shipped one for the first upload.

    Raises:
        StartupError: a setting cannot be used.
    """
    return_large_buffers()
    values = load_settings(settings)
    folder = prepare_instance_folder(PROJECT / values["INSTANCE_PATH"])
    app = Flask(
        __name__,
        instance_path=str(folder),
        template_folder=str(PROJECT / "templates"),
        static_folder=str(PROJECT / "static"),
    )
    app.config.update(values)
    with startup_lock(folder):
        app.config["SECRET_KEY"] = values["SECRET_KEY"] or load_or_create_secret_key(folder)
        app.config["WORKER"] = worker_id(folder)
    app.config.update(
        SQLALCHEMY_DATABASE_URI=values["DATABASE_URL"] or f"sqlite:///{folder / 'deepfake.sqlite'}",
        MAX_CONTENT_LENGTH=max(values[name] for name in SIZE_LIMITS) * MEGABYTE + FORM_OVERHEAD_BYTES,
        MAX_FORM_PARTS=2 * values["MAX_BATCH_FILES"],  # above the limit itself, which has its own sentence
        SESSION_COOKIE_SECURE=values["COOKIE_SECURE"],
        # Browsers accept the prefix over https and from this very host only, so no sister domain can plant a session.
        SESSION_COOKIE_NAME="__Host-session" if values["COOKIE_SECURE"] else "session",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session, because a page may stay open for hours
        MODEL_CACHE=folder / "models",
        VISUALIZATIONS=PROJECT / "visualizations",
    )
    app.session_interface = SessionCookie()
    if proxies := values["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]

    app.extensions["storage"] = Storage(values["STORAGE_URL"] or str(folder / "storage"))
    connect_database(app)
    upgrade_database(app)
    app.extensions["jobs"] = _make_jobs(app)
    app.extensions["file_removal"] = FileRemoval(app)
    app.extensions["detector"] = DetectorThread(detector=detector, load=partial(load_configured_detector, app.config))

    CSRFProtect(app)
    app.register_blueprint(site)
    app.register_blueprint(batches)
    app.register_blueprint(history)
    app.register_blueprint(statistics)
    app.register_blueprint(downloads)
    app.register_blueprint(sharing)
    app.register_blueprint(feedback)
    register_api(app)
    register_limits(app)
    register_operations(app)
    app.after_request(add_security_headers)
    register_errors(app)
    register_outages(app)
    register_languages(app)
    register_retention(app)
    app.jinja_env.globals.update(file_address=file_address, media_address=media_address)
    for function in FILTERS:
        app.add_template_filter(function)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    return app


def _make_jobs(app: Flask) -> Supervisor | TaskQueue:
    if app.config["JOBS"] != CELERY:
        return Supervisor(app)
    try:
        from webapp.task_queue import TaskQueue  # Celery is installed only where it is used
    except ImportError as error:
        raise StartupError(f"{PREFIX}JOBS=celery needs the packages of requirements-scale.txt: {error}.") from error
    return TaskQueue(app)
