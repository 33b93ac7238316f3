"""Tell real faces and voices from deepfakes.

import detector

judge = detector.load_detector()
judge.detect("face.jpg").verdict
"""

from detector.bundle import write_bundle
from detector.engines import Engine
from detector.examination import DELIVERY_LABELS, deliver_face, delivery_sentence, explain_face, face_crop
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
    "DELIVERY_LABELS",
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
    "Engine",
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
    "deliver_face",
    "delivery_sentence",
    "encode_jpeg",
    "encode_png",
    "estimate",
    "explain",
    "explain_face",
    "face_crop",
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
