"""Upgrade the database to the newest migration when a worker starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError

from webapp.config import StartupError
from webapp.instance import startup_lock
from webapp.models import db

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x64656570_66616B65  # "deepfake"; PostgreSQL's advisory locks are numbers


def newest_revision() -> str:
    """Return the newest migration's revision, which its file name begins with."""
    return max(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def upgrade_database(app: Flask) -> None:
    """Apply the missing migrations; return quickly if there are none.

    Flask-Migrate is imported only for that and for `flask db`, because its import takes a quarter of a second.

    Raises:
        StartupError: the database cannot be reached, or the file is not a database.
    """
    if os.environ.get("FLASK_RUN_FROM_CLI") == "true":
        _register_migrate(app)
    try:
        with app.app_context(), startup_lock(Path(app.instance_path)), migration_lock():
            if current_revision() != newest_revision():
                from flask_migrate import upgrade

                _register_migrate(app)
                upgrade()
    except DatabaseError as error:
        raise StartupError(f"The database cannot be used: {error.orig}.") from error


@contextmanager
def migration_lock() -> Iterator[None]:
    """Admit one process at a time to the migrations of a database that several machines share.

    SQLite has one machine, for which `startup_lock` is enough.
    """
    if db.engine.dialect.name != "postgresql":
        yield
        return
    # Without a transaction: an open one would keep some migrations waiting.
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": MIGRATION_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": MIGRATION_LOCK})


def current_revision() -> str | None:
    """Return the revision of the database, None when it is empty."""
    with db.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def _register_migrate(app: Flask) -> None:
    from flask_migrate import Migrate

    Migrate(app, db, directory=MIGRATIONS)
