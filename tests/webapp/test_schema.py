import json
import runpy
import subprocess
import sys

import pytest
from project import ROOT
from sqlalchemy import inspect, text

from detector.reports import was_checked
from detector.results import Reason
from webapp.models import db
from webapp.schema import MIGRATIONS, current_revision, newest_revision


def test_migrations_lead_to_the_tables_of_the_models(app):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.metadata) == []


def test_newest_revision_is_what_alembic_calls_head():
    from alembic.script import ScriptDirectory

    assert newest_revision() == ScriptDirectory(MIGRATIONS).get_current_head()


def test_an_older_database_is_brought_up_to_date(app, make_app):
    with app.app_context():
        db.drop_all()
        with db.engine.begin() as connection:
            connection.execute(text("DROP TABLE alembic_version"))
        assert current_revision() is None
    with make_app().app_context():
        assert current_revision() == newest_revision()
        assert set(db.metadata.tables) <= set(inspect(db.engine).get_table_names())


def test_migrations_can_be_undone(app):
    from flask_migrate import Migrate, downgrade, upgrade

    Migrate(app, db, directory=MIGRATIONS)
    with app.app_context():
        downgrade(revision="base")
        assert inspect(db.engine).get_table_names() == ["alembic_version"]
        upgrade()
        assert current_revision() == newest_revision()


def test_results_from_before_there_were_jobs_are_done_and_unfinished_ones_go_with_them(app):
    from flask_migrate import Migrate, downgrade, upgrade

    def add(analysis_id, **more):
        values = {"id": analysis_id, "visitor": "v", "upload_sha256": "ab", "filename": "a", "media": "image"}
        values |= {"created_at": "2026-01-01", "has_heatmaps": False, "result": "{}", **more}
        statement = text(f"INSERT INTO analysis ({', '.join(values)}) VALUES (:{', :'.join(values)})")
        db.session.execute(statement, values)
        db.session.commit()

    Migrate(app, db, directory=MIGRATIONS)
    with app.app_context():
        downgrade(revision="0001")
        db.session.execute(text("INSERT INTO upload VALUES ('ab', 1, 5, 'image/png')"))
        verdict = {"verdict": "real", "probability": 0.1, "threshold_real": 0.2, "threshold_fake": 0.8, "elapsed_ms": 7}
        add("old", **verdict)
        upgrade()
        add("new", state="waiting", progress=0, attempts=0)
        found = db.session.execute(text("SELECT id, state, attempts, error, probability FROM analysis ORDER BY id"))
        assert found.all() == [("new", "waiting", 0, None, None), ("old", "done", 0, None, 0.1)]
        db.session.commit()
        downgrade(revision="0001")
        assert db.session.execute(text("SELECT id, probability FROM analysis")).all() == [("old", 0.1)]


@pytest.mark.slow
@pytest.mark.embedded
def test_a_start_with_nothing_to_migrate_leaves_alembic_alone(app):
    script = (
        f"import sys; from webapp import create_app; create_app({{'INSTANCE_PATH': {app.instance_path!r}}});"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


@pytest.mark.embedded
def test_sqlite_waits_for_others_and_keeps_its_references(app):
    with app.app_context(), db.engine.connect() as connection:
        found = {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")}
    assert found == {"journal_mode": "wal", "foreign_keys": 1}


def test_scores_of_stored_results_are_marked_as_checked_or_not(app):
    from flask_migrate import Migrate, downgrade, upgrade

    reasons = {
        "real": [],
        "between": ["between_thresholds"],
        "faceless": ["no_face"],
        "both": ["unstable_under_recompression", "too_dark"],
    }
    Migrate(app, db, directory=MIGRATIONS)
    with app.app_context():
        downgrade(revision="0002")
        db.session.execute(text("INSERT INTO upload VALUES ('ab', 9, 5, 'image/png')"))
        columns = "id, visitor, upload_sha256, filename, media, created_at, has_heatmaps, state, progress, attempts"
        add = text(
            f"INSERT INTO analysis ({columns}, result) "
            "VALUES (:id, 'v', 'ab', 'a', 'image', '2026-01-01', false, :state, 1, 0, :result)"
        )
        for name, given in reasons.items():
            db.session.execute(add, {"id": name, "state": "done", "result": json.dumps({"reasons": given})})
        db.session.execute(add, {"id": "waiting", "state": "waiting", "result": "{}"})
        db.session.commit()
        upgrade()
        checked = db.session.scalars(text("SELECT id FROM analysis WHERE is_checked"))
        assert sorted(checked) == ["between", "real"]
        db.session.commit()
        downgrade(revision="0002")
        assert db.session.scalar(text("SELECT count(*) FROM analysis")) == len(reasons) + 1


def test_the_migration_knows_which_reasons_leave_a_score_its_meaning():
    migration = runpy.run_path(str(MIGRATIONS / "versions" / "0004_history.py"))
    assert migration["CHECKED_REASONS"] == {reason for reason in Reason if was_checked([reason])}
