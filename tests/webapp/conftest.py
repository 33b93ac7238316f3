"""Pages of results that are stored without a network."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from detector.record import to_record
from detector.reports import was_checked
from webapp import page_files
from webapp.models import Analysis, Upload, db

VISITOR = "somebody"
MEDIA_TYPES = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/wav"}
SHA256 = "ab" * 32
GREY = np.full((8, 8, 3), 128, np.uint8)


@pytest.fixture
def show(app, client):
    """Return a function that stores a detection with the thresholds 20% and 80% and returns the words of its page."""

    def store(detection, **columns):
        media = detection.media
        with client.session_transaction() as session:
            session["visitor"] = VISITOR
        with app.app_context():
            db.session.merge(Upload(sha256=SHA256, reference_count=1, size_bytes=9, media_type=MEDIA_TYPES[media]))
            analysis = Analysis(
                **{"visitor": VISITOR, "upload_sha256": SHA256, "filename": "it.file", "media": media},
                **{"verdict": str(detection.verdict), "probability": detection.probability},
                **{"threshold_real": 0.2, "threshold_fake": 0.8, "elapsed_ms": 12.0, "has_heatmaps": True},
                **{"result": to_record(detection), **columns},
            )
            db.session.add(analysis)
            db.session.commit()
            address = f"/analyses/{analysis.id}"
        return re.sub(r"\s+", " ", client.get(address).text.replace("\N{NO-BREAK SPACE}", " "))

    return store


@pytest.fixture
def keep(app):
    """Return a function that stores a detection with its upload and thumbnail, and returns the analysis's id.

    It is the visitor's who is given, and some days old. The contents of the upload may be given; the same contents
    are stored once.
    """

    def store(detection, *, visitor=VISITOR, age_days=0.0, content=b"a file", **columns):
        sha256, storage = hashlib.sha256(content).hexdigest(), app.extensions["storage"]
        with app.app_context():
            upload = db.session.get(Upload, sha256)
            if upload is None:
                media_type = MEDIA_TYPES[detection.media]
                upload = Upload(sha256=sha256, reference_count=0, size_bytes=len(content), media_type=media_type)
                db.session.add(upload)
            upload.reference_count += 1
            values = {
                **{"visitor": visitor, "upload_sha256": sha256, "filename": "it.file", "media": detection.media},
                **{"verdict": str(detection.verdict), "probability": detection.probability, "elapsed_ms": 12.0},
                **{"threshold_real": 0.2, "threshold_fake": 0.8, "result": to_record(detection)},
                **{"is_checked": was_checked(detection.reasons), **columns},
            }
            created_at = datetime.now(UTC) - timedelta(days=age_days)
            analysis = Analysis(created_at=created_at, **values)
            db.session.add(analysis)
            db.session.commit()
            storage.save(f"uploads/{sha256}", content)
            storage.save(f"analyses/{analysis.id}/{page_files.THUMBNAIL}", page_files.encode_png(GREY))
            return analysis.id

    return store


@pytest.fixture
def visitor_client(client):
    """Return the browser of the visitor whose results `show` and `keep` store."""
    with client.session_transaction() as session:
        session["visitor"] = VISITOR
    return client
