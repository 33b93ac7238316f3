"""Detect deepfakes in videos: score the faces of sampled frames, track each person, fuse over time.

Probability and thresholds are those of single pictures, because there are too few labelled videos to fit their own. The
error rates of pictures do not hold for videos, so none is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from detector.media.videos import MediaReader, StreamInfo
from detector.pictures.detect import PictureDetector
from detector.pictures.quality import picture_exclusion_reasons
from detector.results import Face, Reason, Track, UnreadableMedia, Verdict, VideoDetection, VoiceDetection
from detector.stages import stage
from detector.text import translatable
from detector.videos.tracks import Tracker, robust_mean

MIN_SAMPLES = 8  # a clip too short for as many steps is sampled more often
MAX_FACES_PER_FRAME = 8  # the largest; each costs as much as the one that counts
FRAMES_PROGRESS = 0.95  # of the work; the rest is for the sound


def detect_video(
    video: MediaReader,
    pictures: PictureDetector,
    *,
    every_s: float = 1.0,
    progress: Callable[[float], None] | None = None,
    detect_voice: Callable[[np.ndarray], VoiceDetection] | None = None,
) -> VideoDetection:
    """Classify a video by its most suspicious face.

    Each sampled frame is processed like a picture. A track's logit is the robust mean over the frames of one person,
    and the video's logit is that of the most suspicious track with enough frames.

    Args:
        video: the open file; it is probed once, and its frames and sound are each read once.
        pictures: the network and the face finder.
        every_s: time between sampled frames; shorter in a clip of under `MIN_SAMPLES` steps, longer in a video of over
            `detector.media.videos.MAX_FRAMES`.
        progress: called with the finished part of the work, in [0, 1]; an exception from it stops the work.
        detect_voice: classifies the sound, (T,) float32 mono 16 kHz in [-1, 1]; None leaves it out.

    Raises:
        UnreadableMedia: not a video, sound only, or none of it can be decoded.
        MediaTooLarge: its frames are too large.
    """
    started = time.perf_counter()
    info = video.info
    if not info.has_video:
        raise UnreadableMedia(
            translatable("The file ({media_type}) holds sound and no video.").format(media_type=info.media_type)
        )
    scores = _score_frames(video, pictures, every_s, progress)
    sound = detect_audio_track(video, detect_voice)
    if progress is not None:
        progress(1.0)

    tracks = scores.tracker.tracks()
    logit, verdict, reasons = _fuse_scores(scores, tracks)
    return VideoDetection(
        verdict=verdict,
        probability=float(pictures.engine.spec.calibration.probability(logit)),
        logit=logit,
        reasons=reasons,
        elapsed_ms=(time.perf_counter() - started) * 1e3,
        model_sha256=pictures.engine.model_sha256,
        tracks=tracks,
        width_px=info.width_px,
        height_px=info.height_px,
        duration_s=info.duration_s or 0.0,
        frames_seen=scores.tracker.frames_seen,
        shot_changes_s=tuple(scores.tracker.shot_changes_s),
        sound=sound,
        every_s=every_s,
    )


@stage("sound")
def detect_audio_track(
    video: MediaReader, detect_voice: Callable[[np.ndarray], VoiceDetection] | None
) -> VoiceDetection | None:
    """Classify the sound of a video; None where it has none, or none that can be decoded."""
    if detect_voice is None or not video.info.has_audio:
        return None
    try:
        waveform = video.read_audio()
    except UnreadableMedia:  # damaged sound is no reason to withhold the verdict on the frames
        return None
    return detect_voice(waveform)


@dataclass
class _FrameScores:
    """What the sampled frames gave.

    Attributes:
        tracker: has the faces that passed the quality gate.
        excluded: the other faces.
        whole_logits: of the frames without any face, each scored as a whole.
    """

    tracker: Tracker
    excluded: list[Face] = field(default_factory=list)
    whole_logits: list[float] = field(default_factory=list)


@stage("frames")
def _score_frames(
    video: MediaReader, pictures: PictureDetector, every_s: float, progress: Callable[[float], None] | None
) -> _FrameScores:
    spec = pictures.engine.spec
    scores = _FrameScores(Tracker(spec.calibration, crop_size_px=spec.face.size_px))
    last_frame_s = max(video.info.last_frame_s, every_s)
    with closing(video.sample_frames(every_s=_step_s(video.info, every_s))) as frames:
        for timestamp_s, frame in frames:
            faces = pictures.score_faces(frame, max_faces=MAX_FACES_PER_FRAME)
            scores.tracker.add(timestamp_s, frame, [face for face in faces if not face.reasons])
            scores.excluded += [replace(face, crop=None) for face in faces if face.reasons]
            if not faces:
                scores.whole_logits.append(pictures.score_whole(frame))
            if progress is not None:
                progress(FRAMES_PROGRESS * min(1.0, timestamp_s / last_frame_s))
    return scores


def _step_s(info: StreamInfo, every_s: float) -> float:
    return min(every_s, info.last_frame_s / MIN_SAMPLES) or every_s


def _fuse_scores(scores: _FrameScores, tracks: tuple[Track, ...]) -> tuple[float, Verdict, tuple[Reason, ...]]:
    """Return logit, verdict and reasons of the video."""
    if tracks:
        return tracks[0].logit, tracks[0].verdict, tracks[0].reasons
    # Programs that sort by score still get one; the reason withholds the verdict.
    logits = [face.logit for face in scores.excluded] or scores.whole_logits
    return robust_mean(np.array(logits)), Verdict.INCONCLUSIVE, picture_exclusion_reasons(scores.excluded)
