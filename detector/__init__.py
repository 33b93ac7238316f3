"""Detect deepfakes in pictures, videos and voice recordings.

import detector

model = detector.load_detector()
model.detect("face.jpg").verdict
"""

from detector import archive, evidence, media, provenance, record, reports, results, text
from detector.pipeline import Detector, load_detector
from detector.results import Detection, DetectorError, MediaTooLarge, ModelError, UnreadableMedia, Verdict
from detector.version import __version__

__all__ = [
    "Detection",
    "Detector",
    "DetectorError",
    "MediaTooLarge",
    "ModelError",
    "UnreadableMedia",
    "Verdict",
    "__version__",
    "archive",
    "evidence",
    "load_detector",
    "media",
    "provenance",
    "record",
    "reports",
    "results",
    "text",
]
