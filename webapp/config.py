"""Every setting in one table: the defaults, the help and the README's rows all come from it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "DEEPFAKE_"
MIN_SECRET_CHARACTERS = 16
EMBEDDED, OFF = "embedded", "off"  # who judges videos and recordings


class StartupError(Exception):
    """The server cannot start like this; the message is a sentence for whoever starts it."""


def _text(text: str) -> str:
    return text


def _secret(text: str) -> str:
    if text and len(text) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARACTERS} characters, not {len(text)}")
    return text


def _database_url(text: str) -> str:
    try:
        return text and make_url(text).render_as_string(hide_password=False)
    except ArgumentError as error:  # the text itself may hold a password and is not repeated
        raise ValueError("must be a database address such as postgresql+psycopg://user@host/name") from error


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
        default: the text that counts when the variable is unset or empty.
        help: what it does, for the README.
        type: text to value; raises ValueError with the end of a sentence that begins with the setting's name.
    """

    name: str
    default: str
    help: str
    type: Callable[[str], Any]


SETTINGS = (
    Setting("INSTANCE_PATH", "instance", "folder for everything the server keeps, relative to `app.py`", _text),
    Setting("SECRET_KEY", "", "signs the session cookie; empty: made once and kept in the instance folder", _secret),
    Setting("DATABASE_URL", "", "where the results are kept; empty: SQLite in the instance folder", _database_url),
    Setting("STORAGE_URL", "", "folder or fsspec address for the pictures; empty: in the instance folder", _text),
    Setting("MAX_UPLOAD_MB", "20", "largest accepted picture in megabytes (1,000,000 bytes)", _whole_number(1, 200)),
    Setting("MAX_RECORDING_MB", "200", "largest accepted video or recording in megabytes", _whole_number(1, 20_000)),
    Setting("EVERY_S", "1", "seconds between the frames of a video that are looked at", _number(0.04, 60)),
    Setting(
        "JOBS",
        EMBEDDED,
        "`embedded`: the server judges videos and recordings itself, in a process beside it; "
        "`off`: whoever runs `python -m webapp.worker` does",
        _choice(EMBEDDED, OFF),
    ),
    Setting("THREADS", "0", "threads a worker judges a picture with; 0: as many as cores", _whole_number(0, 1024)),
    Setting("COOKIE_SECURE", "false", "true: cookies over https only, even when a proxy hides the https", _switch),
)


def load_settings(
    overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Read every setting: from `overrides`, else from the environment, else its default.

    Args:
        overrides: setting names without the prefix to values.
        environment: variables with the prefix to texts.

    Raises:
        StartupError: an unknown name in `overrides`, or a value that does not fit.
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
    return values


def settings_table() -> str:
    """Return the settings as a Markdown table for the README."""
    rows = [f"| `{PREFIX}{s.name}` | {f'`{s.default}`' if s.default else ''} | {s.help} |" for s in SETTINGS]
    return "\n".join(["| variable | default | what it does |", "|---|---|---|", *rows])
