"""Results made by hand, so that every verdict, reason and medium can be shown without a network."""

import numpy as np

from detector.evidence import DeletionCheck, Region
from detector.record import CheckedExplanation, to_record, to_values
from detector.results import (
    HISTOGRAM_BIN_EDGES,
    ErrorRate,
    Face,
    PictureDetection,
    Segment,
    Track,
    TrackFrame,
    Verdict,
    VideoDetection,
    VoiceDetection,
)


def shared(verdict, *, probability, reasons=(), rates=()):
    return {
        "verdict": Verdict(verdict),
        "probability": probability,
        "logit": 1.5,
        "reasons": tuple(reasons),
        "elapsed_ms": 12.0,
        "model_sha256": "cd" * 32,
        "error_rates": tuple(rates),
    }


def picture(verdict="inconclusive", *, faces=None, probability=0.4321, **options):
    if faces is None:
        faces = [face((100, 80, 120, 150), probability=probability)]
    values = shared(verdict, probability=probability, **options)
    image = np.zeros((400, 600, 3), np.uint8)
    return PictureDetection(**values, faces=tuple(faces), width_px=600, height_px=400, image=image)


def face(box, *, probability=0.4321, reasons=()):
    return Face(box, None, 0.9876, box, 1.5, probability, tuple(reasons))


def voice(verdict="inconclusive", *, probability=0.4321, **options):
    segments = tuple(Segment(start_s, start_s + 1, 1.5, probability) for start_s in (0.0, 0.5, 1.0))
    values = shared(verdict, probability=probability, **options)
    return VoiceDetection(**values, segments=segments, duration_s=2.5, spectrogram=np.zeros((4, 9), np.float32))


def video(verdict="inconclusive", *, probability=0.4321, reasons=(), sound=None, **options):
    frame = TrackFrame(0.5, 1, (10, 10, 90, 90), 1.5, probability, Verdict.REAL, np.zeros((9, 9, 3), np.uint8))
    votes = {Verdict.REAL: 1.0}
    track = Track((frame,), 1.5, probability, Verdict(verdict), votes, tuple(reasons))
    values = shared(verdict, probability=probability, reasons=reasons, **options)
    return VideoDetection(
        **values, tracks=(track,), width_px=320, height_px=240, duration_s=5.0, frames_seen=5, sound=sound
    )


def rate(kind, share, *, unseen=True):
    bins = (0,) * (len(HISTOGRAM_BIN_EDGES) - 2) + (200,)
    return ErrorRate(kind, 200, share, share / 2, 2 * share, 0, None, bins, unseen=unseen)


def explained(detection, *, matters):
    check = None
    if matters is not None:
        check = DeletionCheck((0.0, 0.5), (1.2, -4.5), (1.2, 0.8), area=-1.6, random_area=1.0, matters=matters)
    sentence = "The evidence of a fake lies mostly in the mouth."
    region = Region((10, 10, 20, 20), 0.6543)
    found = CheckedExplanation("class_map", np.full((2, 2), 0.9, np.float32), (region,), sentence, 192, check)
    return {**to_record(detection), "explanations": [to_values(found)]}
