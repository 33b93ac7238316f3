"""From a recording to a verdict on the voice in it: windows, network, fusion, calibration."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from detector.media.videos import MediaSource, read_audio
from detector.models.calibration import Calibration
from detector.models.engines import Engine, load_engine
from detector.models.files import VOICE_MODEL_FILES as VOICE_MODEL_FILES
from detector.models.files import VOICE_REFERENCE_SCORES_FILE as VOICE_REFERENCE_SCORES_FILE
from detector.models.heatmaps import activation_heatmap
from detector.models.reference_scores import ReferenceScores, load_matching_reference_scores
from detector.results import ModelError, Segment, UnreadableMedia, VoiceDetection
from detector.verdicts import decide
from detector.voices.features import (
    FFT_LENGTH,
    MEL_BANDS,
    SAMPLE_RATE_HZ,
    VOICE_INPUT,
    cut_windows,
    has_sound,
    log_spectrogram,
    mel_edges_hz,
    mel_spectrogram,
    normalize_level,
    speech_exclusion_reasons,
)

VOICE_NETWORK = "voice"
WINDOWS_PER_BATCH = 128  # windows at once: a minute, 30 MB
MAP_COLUMNS_PER_S = 4  # of the heat map; windows overlap by half a second
REFERENCE_SIZE_PX = 1  # the table of held-out scores goes by size; recordings are all of one


class VoiceDetector:
    """A loaded voice network; may be shared by threads.

    Attributes:
        engine: the network, with its spec.
        reference_scores: how this very model scored held-out recordings; None when that was not measured.

    Raises:
        ModelError: the network is not one for voices, or was trained on other windows than are cut here.
    """

    def __init__(self, engine: Engine, reference_scores: ReferenceScores | None = None):
        if engine.spec.voice != VOICE_INPUT:
            raise ModelError(
                "The voice model was trained on other spectrograms than this version makes; train it again."
            )
        self.engine = engine
        self.reference_scores = reference_scores

    def detect(self, source: MediaSource | np.ndarray) -> VoiceDetection:
        """Judge the voice in a recording, or in the sound of a video.

        The recording's logit is the mean over its windows, pauses left out. Out of scope it is scored all the same, for
        programs that sort by it, but the verdict stays inconclusive.

        Args:
            source: a path, a file's bytes, an open binary file, or a waveform (T,) float32 mono 16 kHz in [-1, 1].

        Raises:
            UnreadableMedia: what `read_audio` raises; also for an array of another kind, and for less than a frame of
                sound.
        """
        started = time.perf_counter()
        waveform = _checked(source) if isinstance(source, np.ndarray) else read_audio(source)
        if len(waveform) < FFT_LENGTH:
            duration_ms = 1e3 * len(waveform) / SAMPLE_RATE_HZ
            least_ms = 1e3 * FFT_LENGTH / SAMPLE_RATE_HZ
            raise UnreadableMedia(
                f"The recording holds {duration_ms:.0f} ms of sound; at least {least_ms:.0f} are needed."
            )
        windows, starts_s = cut_windows(normalize_level(waveform))
        judged = has_sound(windows)
        windows, starts_s = windows[judged], starts_s[judged]
        logits, class_maps = self._run(windows)

        calibration, duration_s = self.engine.spec.calibration, len(waveform) / SAMPLE_RATE_HZ
        ends_s = starts_s + windows.shape[1] / SAMPLE_RATE_HZ
        segments = tuple(
            Segment(start_s, end_s, logit, calibration.probability(logit))
            for start_s, end_s, logit in zip(starts_s.tolist(), ends_s.tolist(), logits.tolist(), strict=True)
        )
        logit = float(logits.mean())
        exclusion_reasons = speech_exclusion_reasons(waveform)
        decision = decide(logit, exclusion_reasons, calibration)
        is_measured = self.reference_scores is not None and not exclusion_reasons
        return VoiceDetection(
            verdict=decision.verdict,
            probability=decision.probability,
            logit=logit,
            reasons=decision.reasons,
            segments=segments,
            duration_s=duration_s,
            spectrogram=mel_spectrogram(waveform),
            heatmap=None if class_maps is None else _heatmap(class_maps, segments, duration_s, calibration),
            elapsed_ms=(time.perf_counter() - started) * 1e3,
            model_sha256=self.engine.model_sha256,
            error_rates=self.reference_scores.error_rates(decision.probability, REFERENCE_SIZE_PX)
            if is_measured
            else (),
        )

    def _run(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits (N,) and class maps (N, h, w) of windows (N, W)."""
        parts = [
            self.engine.run(log_spectrogram(windows[start : start + WINDOWS_PER_BATCH])[..., None])
            for start in range(0, len(windows), WINDOWS_PER_BATCH)
        ]
        logits, class_maps = zip(*parts, strict=True)
        return np.concatenate(logits), None if class_maps[0] is None else np.concatenate(class_maps)


def load_voice_detector(
    path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None
) -> VoiceDetector:
    """Load the voice network and, if it is of this model, the table of held-out scores.

    Args:
        path: the model file; None takes the one that comes with the project, models/voice.onnx or models/voice.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine; None takes every core.

    Raises:
        ModelError: unknown engine, a model file that is missing or foreign, or a damaged table of held-out scores.
    """
    network = load_engine(VOICE_MODEL_FILES, path=path, engine=engine, threads=threads)
    return VoiceDetector(network, load_matching_reference_scores(VOICE_REFERENCE_SCORES_FILE, network.model_sha256))


def _heatmap(
    class_maps: np.ndarray, segments: tuple[Segment, ...], duration_s: float, calibration: Calibration
) -> np.ndarray:
    """Lay the windows' maps (N, h, w) over the recording, with the rows of `mel_picture`; neutral where none was.

    Returns:
        (MEL_BANDS, columns) float32 in [0, 1].
    """
    columns = max(1, round(duration_s * MAP_COLUMNS_PER_S))
    sums, counts = np.zeros((class_maps.shape[1], columns)), np.zeros(columns)
    for segment, class_map in zip(segments, class_maps, strict=True):
        first = min(columns - 1, int(segment.start_s / duration_s * columns))
        covered = max(1, round((segment.end_s - segment.start_s) / duration_s * columns))
        covered = min(covered, columns - first)
        sums[:, first : first + covered] += class_map[:, np.arange(covered) * class_map.shape[1] // covered]
        counts[first : first + covered] += 1
    heat = activation_heatmap(sums / np.maximum(counts, 1), calibration)
    heat[:, counts == 0] = 0.5
    centres_hz = mel_edges_hz(MEL_BANDS)[1:-1]
    return heat[(centres_hz / (SAMPLE_RATE_HZ / 2) * len(heat)).astype(int)]


def _checked(waveform: np.ndarray) -> np.ndarray:
    # Integers would be taken for a recording far over full scale.
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating) or not np.isfinite(waveform).all():
        raise UnreadableMedia(
            f"A recording given as an array must be (T,) float32 mono 16 kHz; this one is {waveform.shape} "
            f"{waveform.dtype}, or holds values that are no numbers."
        )
    return waveform.astype(np.float32, copy=False)
