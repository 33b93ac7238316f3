"""From a video to a verdict: sample frames, score their faces, follow each person, fuse over time, listen."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np

from detector.media.videos import MediaSource, StreamInfo, probe, read_audio, sample_frames
from detector.pictures.detect import PictureDetector
from detector.pictures.quality import picture_exclusion_reasons
from detector.results import Face, UnreadableMedia, Verdict, VideoDetection, VoiceDetection
from detector.videos.tracks import Tracker, robust_mean

MIN_SAMPLES = 8  # a clip too short for as many steps is looked at more often
MAX_FACES_PER_FRAME = 8  # the largest; each costs as much as the one that counts
FRAMES_SHARE = 0.95  # of the work, as `progress` tells it; the rest is for the sound


def detect_video(
    source: MediaSource,
    judge: PictureDetector,
    *,
    every_s: float = 1.0,
    progress: Callable[[float], None] | None = None,
    listen: Callable[[np.ndarray], VoiceDetection] | None = None,
) -> VideoDetection:
    """Judge a video by its most suspicious face.

    Every frame that is looked at takes the way of a picture: the same face finder, scope, crop and network. Faces are
    followed into tracks, a track's logit is the robust mean over its frames, and the video's that of the most
    suspicious track with enough frames. Probability and thresholds are those of single pictures: there are too few
    labelled videos to fit any of their own, so the stated error rates do not hold for videos and none is given.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.
        judge: the network and the face finder.
        every_s: how often a frame is looked at; a clip of under `MIN_SAMPLES` steps is more often, a video of over
            `streams.MAX_FRAMES` more rarely.
        progress: is called with the share of the work that is done, in [0, 1]; what it raises stops the work.
        listen: judges the sound, (T,) float32 mono 16 kHz in [-1, 1]; None leaves it out.

    Raises:
        UnreadableMedia: not a video, sound only, or nothing of it can be decoded.
        MediaTooLarge: its frames are too large.
    """
    started = time.perf_counter()
    info = probe(source)
    if not info.has_video:
        raise UnreadableMedia(f"The file ({info.media_type}) holds sound and no video.")
    spec = judge.engine.spec
    tracker = Tracker(spec.calibration, crop_size_px=spec.face.size_px)
    unfit: list[Face] = []
    whole_logits: list[float] = []
    with closing(sample_frames(source, every_s=_step_s(info, every_s))) as frames:
        for timestamp_s, frame in frames:
            faces = judge.score_faces(frame, max_faces=MAX_FACES_PER_FRAME)
            tracker.add(timestamp_s, frame, [face for face in faces if not face.reasons])
            unfit += [replace(face, crop=None) for face in faces if face.reasons]
            if not faces:
                whole_logits.append(judge.score_whole(frame))
            if progress is not None:
                progress(FRAMES_SHARE * min(1.0, timestamp_s / max(info.last_frame_s, every_s)))
    sound = _hear(source, listen)
    if progress is not None:
        progress(1.0)

    tracks = tracker.tracks()
    if tracks:
        logit, verdict, reasons = tracks[0].logit, tracks[0].verdict, tracks[0].reasons
    else:
        # The score is still given, for programs that sort by it; the reason withholds the verdict.
        logits = [face.logit for face in unfit] or whole_logits
        logit, verdict, reasons = robust_mean(np.array(logits)), Verdict.INCONCLUSIVE, picture_exclusion_reasons(unfit)
    return VideoDetection(
        verdict=verdict,
        probability=spec.calibration.probability(logit),
        logit=logit,
        reasons=reasons,
        elapsed_ms=(time.perf_counter() - started) * 1e3,
        model_sha256=judge.engine.model_sha256,
        tracks=tracks,
        width_px=info.width_px,
        height_px=info.height_px,
        duration_s=info.duration_s,
        frames_seen=tracker.frames_seen,
        shot_changes_s=tuple(tracker.shot_changes_s),
        sound=sound,
    )


def _step_s(info: StreamInfo, every_s: float) -> float:
    return min(every_s, info.last_frame_s / MIN_SAMPLES) or every_s


def _hear(source: MediaSource, listen: Callable[[np.ndarray], VoiceDetection] | None) -> VoiceDetection | None:
    if listen is None:
        return None
    try:
        waveform = read_audio(source)
    except UnreadableMedia:  # no sound, or none that can be read, is no reason to withhold what the frames say
        return None
    return listen(waveform)
