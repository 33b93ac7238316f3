"""The instance folder: private to the server's user, shared by its workers."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webapp.config import StartupError

SECRET_BYTES = 32


def prepare_instance_folder(path: Path) -> Path:
    """Create the instance folder, readable by its owner only.

    Raises:
        StartupError: it cannot be created or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"The instance folder {path} cannot be created: {error.strerror}.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartupError(f"The instance folder {path} cannot be written to.")
    return path


@contextmanager
def startup_lock(folder: Path) -> Iterator[None]:
    """Admit one process of this machine at a time, so that workers can start together."""
    with open(folder / "start.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load_or_create_secret_key(folder: Path) -> str:
    """Return the key in the instance folder; the first call creates it."""
    path = folder / "secret_key"
    if not path.exists():
        write_atomically(path, secrets.token_hex(SECRET_BYTES).encode())
    return path.read_text()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically, readable by its owner only."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
