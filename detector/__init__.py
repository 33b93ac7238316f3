"""Tell real faces from deepfakes.

import detector

judge = detector.load_detector()
judge.detect("face.jpg").verdict
"""

from detector.bundle import write_bundle
from detector.explanations import (
    METHODS,
    DeletionCheck,
    Explanation,
    colour_heatmap,
    deletion_check,
    explain,
    landmarks_in_crop,
)
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
from detector.pictures import PictureDetector
from detector.pipeline import Detector, load_detector
from detector.provenance import Provenance, read_provenance
from detector.report import Entry, Evidence, FaceMap, Section
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
from detector.stability import Delivery, Stability, deliver_and_score
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
    "METHODS",
    "SCORE_EDGES",
    "VIDEO_SUFFIXES",
    "WRONG_ABOUT",
    "DeletionCheck",
    "Delivery",
    "Detection",
    "Detector",
    "DetectorError",
    "Entry",
    "ErrorRate",
    "Evidence",
    "Explanation",
    "Face",
    "FaceMap",
    "MediaTooLarge",
    "ModelError",
    "PictureDetection",
    "PictureDetector",
    "Provenance",
    "Reason",
    "Section",
    "Segment",
    "Stability",
    "Track",
    "TrackFrame",
    "UnreadableMedia",
    "Verdict",
    "VideoDetection",
    "VoiceDetection",
    "colour_heatmap",
    "count",
    "deletion_check",
    "deliver_and_score",
    "encode_jpeg",
    "encode_png",
    "estimate",
    "explain",
    "face_sizes",
    "headline",
    "landmarks_in_crop",
    "load_detector",
    "make_sample_fake",
    "megabytes",
    "moment",
    "percent",
    "probability",
    "rate_sentence",
    "read_image",
    "read_provenance",
    "reason_sentence",
    "sniff",
    "write_bundle",
]
