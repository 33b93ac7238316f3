"""All settings in one table, from which the defaults, the help and the README's table are made."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import parse_many
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

PROJECT = Path(__file__).resolve().parent.parent
PREFIX = "DEEPFAKE_"
MIN_SECRET_CHARACTERS = 16
EMBEDDED, CELERY, OFF = "embedded", "celery", "off"  # where videos, recordings and batches are analysed
UNLIMITED = "off"  # in place of a rate
PLAIN_LOG, CONSOLE_LOG, JSON_LOG = "plain", "console", "json"  # formats of the log
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


class StartupError(Exception):
    """The server cannot start; the message is a sentence for the administrator."""


def _text(text: str) -> str:
    return text


def _secret(text: str) -> str:
    if text and len(text) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARACTERS} characters, not {len(text)}")
    return text


def _database_url(text: str) -> str:
    try:
        return text and make_url(text).render_as_string(hide_password=False)
    except ArgumentError as error:  # the text may contain a password, so it is not repeated
        raise ValueError("must be a database address such as postgresql+psycopg://user@host/name") from error


def _sha256(text: str) -> str:
    if text and not SHA256_PATTERN.fullmatch(text.lower()):
        raise ValueError(f"must have 64 hexadecimal digits, not {text!r}")
    return text.lower()


def _switch(text: str) -> bool:
    answers = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in answers:
        raise ValueError(f"must be true or false, not {text!r}")
    return answers[text.lower()]


def _choice(*answers: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in answers:
            raise ValueError(f"must be {' or '.join(answers)}, not {text!r}")
        return text.lower()

    return parse


def _rate(text: str) -> str:
    if text.lower() == UNLIMITED:
        return UNLIMITED
    try:
        parse_many(text)
    except ValueError as error:
        raise ValueError(f"must be a rate such as 120 per minute, or {UNLIMITED}, not {text!r}") from error
    return text


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return number

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: key in `app.config`, and with `PREFIX` the environment variable.
        default: the text that is used when the variable is unset or empty.
        help: its meaning, for the README.
        type: parses the text; raises ValueError with the end of a sentence that begins with the setting's name.
    """

    name: str
    default: str
    help: str
    type: Callable[[str], Any]


SETTINGS = (
    Setting("INSTANCE_PATH", "instance", "folder for all data of the server, relative to `app.py`", _text),
    Setting("SECRET_KEY", "", "signs the session cookie; empty: generated and stored in the instance folder", _secret),
    Setting("DATABASE_URL", "", "database of the results; empty: SQLite in the instance folder", _database_url),
    Setting("STORAGE_URL", "", "folder or fsspec address of the stored files; empty: in the instance folder", _text),
    Setting("MAX_UPLOAD_MB", "20", "largest accepted picture in megabytes (1,000,000 bytes)", _whole_number(1, 200)),
    Setting("MAX_RECORDING_MB", "200", "largest accepted video or recording in megabytes", _whole_number(1, 20_000)),
    Setting(
        "MAX_BATCH_FILES",
        "500",
        "most files in one upload, with those in its ZIP archives",
        _whole_number(2, 2000),
    ),
    Setting(
        "MAX_BATCH_MB",
        "1000",
        "largest upload of several files in megabytes, with ZIP archives unpacked",
        _whole_number(1, 100_000),
    ),
    Setting(
        "MAX_ZIP_RATIO",
        "100",
        "how many times its size a ZIP archive may unpack to, above 20 MB",
        _whole_number(2, 1000),
    ),
    Setting("EVERY_S", "1", "seconds between the sampled frames of a video", _number(0.04, 60)),
    Setting(
        "JOBS",
        EMBEDDED,
        "where videos, recordings and batches are analysed. `embedded`: in a process that the server starts; "
        "`celery`: by workers on any machine; `off`: start it yourself with `python -m webapp.worker`",
        _choice(EMBEDDED, CELERY, OFF),
    ),
    Setting("BROKER_URL", "", "address of Redis for Celery, such as `redis://host:6379/0`", _text),
    Setting("TIME_LIMIT_S", "3600", "seconds after which a Celery worker gives a file up", _whole_number(10, 86_400)),
    Setting("MODEL", "", "file or fsspec address of the face network; empty: the shipped one", _text),
    Setting("MODEL_SHA256", "", "SHA-256 that the file of `DEEPFAKE_MODEL` must have", _sha256),
    Setting("THREADS", "0", "inference threads of a worker; 0: one for each core", _whole_number(0, 1024)),
    Setting(
        "LOG",
        PLAIN_LOG,
        "`plain`: only messages of the server; `console` or `json`: also one line for each request",
        _choice(PLAIN_LOG, CONSOLE_LOG, JSON_LOG),
    ),
    Setting("METRICS_TOKEN", "", "bearer token with which Prometheus reads `/metrics`; empty: no such page", _secret),
    Setting(
        "WORKER_METRICS_PORT",
        "0",
        "port on which a Celery worker serves its own `/metrics`, to the same token; 0: none",
        _whole_number(0, 65_535),
    ),
    Setting("COOKIE_SECURE", "false", "true: cookies over https only, even if a proxy ends https", _switch),
    Setting(
        "TRUSTED_PROXIES",
        "0",
        "number of proxies in front whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; 0: none",
        _whole_number(0, 10),
    ),
    Setting(
        "RETENTION_DAYS", "30", "days after which a result and its file are deleted; 0: never", _whole_number(0, 36_500)
    ),
    Setting(
        "OPERATOR_TOKEN",
        "",
        "opens the statistics of all visitors at `/operator`; empty: there is no such page",
        _secret,
    ),
    Setting("API_RATE", "300 per minute", "requests to the API of one token; `off`: no limit", _rate),
    Setting("API_ADDRESS_RATE", "600 per minute", "requests to the API from one address; `off`: no limit", _rate),
    Setting("UPLOAD_RATE", "120 per minute", "uploads by the pages from one address; `off`: no limit", _rate),
    Setting(
        "RATE_STORAGE_URL",
        "memory://",
        "where requests are counted: `memory://` counts in each worker, an address such as `redis://host` in one place",
        _text,
    ),
    Setting(
        "WEBHOOKS_TO_PRIVATE",
        "false",
        "true: webhooks may go to private addresses, and over http; only if all holders of tokens are trusted",
        _switch,
    ),
)


def load_settings(
    overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Read every setting from `overrides`, else from the environment, else its default.

    Args:
        overrides: setting names without the prefix, to values.
        environment: variable names with the prefix to texts.

    Raises:
        StartupError: an unknown name in `overrides`, or an invalid value.
    """
    overrides = dict(overrides or {})
    values = {}
    for setting in SETTINGS:
        text = str(overrides.pop(setting.name, environment.get(PREFIX + setting.name, ""))) or setting.default
        try:
            values[setting.name] = setting.type(text)
        except ValueError as error:
            raise StartupError(f"{PREFIX}{setting.name} {error}.") from error
    if overrides:
        raise StartupError(f"There is no setting {', '.join(sorted(overrides))}.")
    for name, needed, is_missing in (
        ("JOBS=celery", "BROKER_URL", values["JOBS"] == CELERY and not values["BROKER_URL"]),
        ("WORKER_METRICS_PORT", "METRICS_TOKEN", values["WORKER_METRICS_PORT"] and not values["METRICS_TOKEN"]),
        ("MODEL", "MODEL_SHA256", values["MODEL"] and not values["MODEL_SHA256"]),
    ):
        if is_missing:
            raise StartupError(f"{PREFIX}{name} needs {PREFIX}{needed}.")
    return values


def settings_table() -> str:
    """Return the settings as a Markdown table for the README."""
    rows = [f"| `{PREFIX}{s.name}` | {f'`{s.default}`' if s.default else ''} | {s.help} |" for s in SETTINGS]
    return "\n".join(["| variable | default | what it does |", "|---|---|---|", *rows])
