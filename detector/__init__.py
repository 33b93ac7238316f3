"""Tell real faces from deepfakes.

import detector

judge = detector.load_detector()
judge.detect("face.jpg").verdict
"""

from detector.explanations import colour_heatmap
from detector.media import IMAGE_SUFFIXES, encode_jpeg, encode_png, read_image, sniff
from detector.pipeline import Detector, load_detector
from detector.results import (
    SCORE_EDGES,
    WRONG_ABOUT,
    Detection,
    DetectorError,
    ErrorRate,
    Face,
    MediaTooLarge,
    ModelError,
    PictureDetection,
    Reason,
    Segment,
    Track,
    TrackFrame,
    UnreadableMedia,
    Verdict,
    VideoDetection,
    VoiceDetection,
)
from detector.synthesis import make_sample_fake

__version__ = "0.1.0"
__all__ = [
    "IMAGE_SUFFIXES",
    "SCORE_EDGES",
    "WRONG_ABOUT",
    "Detection",
    "Detector",
    "DetectorError",
    "ErrorRate",
    "Face",
    "MediaTooLarge",
    "ModelError",
    "PictureDetection",
    "Reason",
    "Segment",
    "Track",
    "TrackFrame",
    "UnreadableMedia",
    "Verdict",
    "VideoDetection",
    "VoiceDetection",
    "colour_heatmap",
    "encode_jpeg",
    "encode_png",
    "load_detector",
    "make_sample_fake",
    "read_image",
    "sniff",
]
