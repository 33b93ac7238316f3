"""Pages of results that are stored without a network."""

import re

import pytest

from detector.record import to_record
from webapp.models import Analysis, Upload, db

VISITOR = "somebody"
MEDIA_TYPES = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/wav"}
SHA256 = "ab" * 32


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
