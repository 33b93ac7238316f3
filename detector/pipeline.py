"""The one way in: a file of any kind that is read, to a verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detector.media.images import read_head
from detector.media.kinds import sniff
from detector.media.videos import probe
from detector.models.calibration import Calibration
from detector.pictures.detect import PictureDetector, load_picture_detector
from detector.results import Detection, VoiceDetection
from detector.videos.detect import detect_video
from detector.voices.detect import VoiceDetector, load_voice_detector


class Detector:
    """The loaded networks, each for its medium; may be shared by threads.

    Attributes:
        pictures: judges pictures and the frames of videos.
    """

    def __init__(self, pictures: PictureDetector, load_voices: Callable[[], VoiceDetector]):
        """Keep what judges pictures; `load_voices` is called once, when the first recording comes."""
        self.pictures = pictures
        self._load_voices = load_voices
        self._voices: VoiceDetector | None = None
        self._loading = threading.Lock()

    @property
    def voices(self) -> VoiceDetector:
        """What judges recordings, and the sound of videos.

        Raises:
            ModelError: its model file is missing or does not fit.
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
        """Judge one file; its first bytes tell whether it is a picture, a video or a recording, never its name.

        A container of videos that holds sound alone is judged as a recording.

        Args:
            source: a path, a file's bytes, or an upright picture (H, W, 3) uint8 RGB.
            every_s: of a video, how many seconds lie between the frames that are looked at.
            progress: of a video, is called with the share of the work that is done, in [0, 1]; what it raises stops the
                work.

        Returns:
            A PictureDetection, VideoDetection or VoiceDetection.

        Raises:
            UnreadableMedia, MediaTooLarge: the file is of no kind that is read, damaged, or over a limit.
            ModelError: the network for its medium is missing.
        """
        if isinstance(source, np.ndarray):
            return self.pictures.detect(source)
        media = sniff(read_head(source)).partition("/")[0]
        if media == "image":
            return self.pictures.detect(source)
        if media == "video" and probe(source).has_video:
            return detect_video(source, self.pictures, every_s=every_s, progress=progress, listen=self._hear)
        return self.voices.detect(source)

    def _hear(self, waveform: np.ndarray) -> VoiceDetection:
        return self.voices.detect(waveform)  # loaded by now at the earliest: many videos are silent

    def calibration_of(self, media: str) -> Calibration:
        """Return the line and the thresholds behind the verdicts on "image", "video" or "audio"."""
        judge = self.voices if media == "audio" else self.pictures
        return judge.engine.spec.calibration


def load_detector(path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None) -> Detector:
    """Load the face network and the face finder; the voice network follows with the first recording.

    Args:
        path: the face model's file; None takes the one that comes with the project, models/face.onnx or model.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine and the face finder; None takes every core.

    Raises:
        ModelError: unknown engine, a model file that is missing or foreign, or a damaged table of held-out scores.
    """
    pictures = load_picture_detector(path, engine=engine, threads=threads)
    return Detector(pictures, lambda: load_voice_detector(engine=engine, threads=threads))
