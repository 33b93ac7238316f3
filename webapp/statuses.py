"""HTTP statuses of the detector's errors, for pages and programs alike."""

from __future__ import annotations

from detector import DetectorError, MediaTooLarge, ModelError, UnreadableMedia
from webapp.analyses import UnsupportedMedia

# the first match counts
STATUSES = ((UnsupportedMedia, 415), (UnreadableMedia, 400), (MediaTooLarge, 413), (ModelError, 503))


def status_of(error: DetectorError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 400)
