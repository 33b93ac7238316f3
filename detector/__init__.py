"""Tell real faces from deepfakes.

import detector

judge = detector.load_detector()
judge.detect("face.jpg").verdict
"""

from detector.explanations import colour_heatmap
from detector.media import (
    AUDIO_SUFFIXES,
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    encode_jpeg,
    encode_png,
    read_image,
    sniff,
)
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
from detector.wording import (
    DIRECTIONS,
    KINDS,
    count,
    estimate,
    face_sizes,
    headline,
    megabytes,
    moment,
    percent,
    probability,
    rate_sentence,
    reason_sentence,
)

__version__ = "0.1.0"
__all__ = [
    "AUDIO_SUFFIXES",
    "DIRECTIONS",
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "KINDS",
    "SCORE_EDGES",
    "VIDEO_SUFFIXES",
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
    "count",
    "encode_jpeg",
    "encode_png",
    "estimate",
    "face_sizes",
    "headline",
    "load_detector",
    "make_sample_fake",
    "megabytes",
    "moment",
    "percent",
    "probability",
    "rate_sentence",
    "read_image",
    "reason_sentence",
    "sniff",
]
