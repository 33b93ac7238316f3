"""The detector of all media: from a file of any supported kind to a verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detector.media.files import read_head
from detector.media.kinds import sniff
from detector.media.videos import open_media
from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.pictures.detect import PictureDetector, load_picture_detector
from detector.results import Detection, VoiceDetection
from detector.videos.detect import detect_video
from detector.voices.detect import VoiceDetector, load_voice_detector


class Detector:
    """The loaded networks, one for each medium; threads may share one detector.

    Attributes:
        pictures: detects pictures and the frames of videos.
    """

    def __init__(self, pictures: PictureDetector, load_voices: Callable[[], VoiceDetector]):
        """Keep the detector of pictures; the first recording calls `load_voices`, once."""
        self.pictures = pictures
        self._load_voices = load_voices
        self._voices: VoiceDetector | None = None
        self._loading = threading.Lock()

    @property
    def voices(self) -> VoiceDetector:
        """The detector of recordings and of the audio tracks of videos.

        Raises:
            ModelError: its model file is missing or unusable.
        """
        with self._loading:
            if self._voices is None:
                self._voices = self._load_voices()
            return self._voices

    def detect(
        self,
        source: str | Path | bytes | np.ndarray,
        *,
        every_s: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> Detection:
        """Detect whether one file is a deepfake; its first bytes decide on the medium, never its name.

        A video container without a video track is analysed as a recording.

        Args:
            source: a path, a file's bytes, or an upright picture (H, W, 3) uint8 RGB.
            every_s: seconds between the sampled frames of a video.
            progress: of a video, called with the proportion of the work done, in [0, 1]; an exception that it raises
                stops the work.

        Returns:
            A PictureDetection, VideoDetection or VoiceDetection.

        Raises:
            UnreadableMedia, MediaTooLarge: the file is of an unsupported kind, damaged, or over a limit.
            ModelError: the network for its medium is missing.
        """
        if isinstance(source, np.ndarray):
            return self.pictures.detect(source)
        media = sniff(read_head(source)).partition("/")[0]
        if media == "image":
            return self.pictures.detect(source)
        if media == "video":
            with open_media(source) as video:
                if video.info.has_video:
                    return detect_video(
                        video, self.pictures, every_s=every_s, progress=progress, detect_voice=self._detect_audio_track
                    )
        return self.voices.detect(source)

    def _detect_audio_track(self, waveform: np.ndarray) -> VoiceDetection:
        return self.voices.detect(waveform)  # loaded by now at the earliest: many videos are silent

    def engine_of(self, media: str) -> Engine:
        """Return the network behind the verdicts on "image", "video" or "audio"."""
        return (self.voices if media == "audio" else self.pictures).engine

    def calibration_of(self, media: str) -> Calibration:
        """Return the calibration and thresholds behind the verdicts on "image", "video" or "audio"."""
        return self.engine_of(media).spec.calibration


def load_detector(path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None) -> Detector:
    """Load the face network and the face finder; the first recording loads the voice network.

    Args:
        path: the face model's file; None takes the one that comes with the project, models/face.onnx or model.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine and the face finder; None takes every core.

    Raises:
        ModelError: unknown engine, a model file that is missing or foreign, or damaged reference scores.
    """
    pictures = load_picture_detector(path, engine=engine, threads=threads)
    return Detector(pictures, lambda: load_voice_detector(engine=engine, threads=threads))
