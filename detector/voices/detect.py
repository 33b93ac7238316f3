"""Detect fake voices in a recording: windows, network, fusion, calibration, verdict."""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from detector.media.videos import SAMPLE_RATE_HZ, MediaSource, read_audio
from detector.models.calibration import Calibration
from detector.models.engines import Engine, load_engine
from detector.models.files import VOICE_MODEL_FILES as VOICE_MODEL_FILES
from detector.models.files import VOICE_REFERENCE_SCORES_FILE as VOICE_REFERENCE_SCORES_FILE
from detector.models.heatmaps import NEUTRAL, activation_heatmap
from detector.models.reference_scores import ReferenceScores, load_matching_reference_scores
from detector.results import ErrorRate, ModelError, Segment, UnreadableMedia, VoiceDetection
from detector.stages import stage
from detector.text import translatable
from detector.verdicts import decide
from detector.voices.features import (
    FFT_LENGTH,
    MEL_BANDS,
    VOICE_INPUT,
    cut_windows,
    has_sound,
    mel_edges_hz,
    mel_spectrogram,
    network_input,
    normalize_level,
)
from detector.voices.quality import speech_exclusion_reasons

VOICE_NETWORK = "voice"
WINDOWS_PER_BATCH = 4  # five seconds of sound; smaller batches read the weights too often, larger ones are no faster
MAX_STREAMS = 4  # threads that work on a recording
MAP_COLUMNS_PER_S = 4  # of the heat map
REFERENCE_SIZE_PX = 1  # the reference scores are tabled by face size; all recordings share one entry


class VoiceDetector:
    """A loaded voice network; threads may share one.

    Attributes:
        engine: the network, with its spec.
        reference_scores: scores of this model on held-out recordings; None when they were not measured.

    Raises:
        ModelError: the network is not a voice network, or it expects other spectrograms than this version computes.
    """

    def __init__(self, engine: Engine, reference_scores: ReferenceScores | None = None):
        if engine.spec.voice != VOICE_INPUT:
            raise ModelError(
                "The voice model was trained on other spectrograms than this version computes; train the model again."
            )
        self.engine = engine
        self.reference_scores = reference_scores

    def detect(self, source: MediaSource | np.ndarray) -> VoiceDetection:
        """Analyse the voice in a recording, or in the audio track of a video.

        The recording's logit is the mean over its windows, without pauses. A recording that the quality gate excludes
        still gets a logit, for programs that sort by it, but its verdict is inconclusive.

        Args:
            source: a path, a file's bytes, an open binary file, or a waveform (T,) float32 mono 16 kHz in [-1, 1].

        Raises:
            UnreadableMedia: `read_audio` cannot read the source, an array has another shape or type, or the recording
                is shorter than FFT_LENGTH samples.
        """
        started = time.perf_counter()
        waveform = _check_waveform(source) if isinstance(source, np.ndarray) else read_audio(source)
        _check_duration(waveform)
        normalized = normalize_level(waveform)
        with ThreadPoolExecutor(self.engine.streams) as pool:
            gate = pool.submit(speech_exclusion_reasons, waveform, normalized)
            spectrogram = pool.submit(mel_spectrogram, normalized)
            logits, class_maps, segments = self._score_windows(normalized, pool)

        calibration, duration_s = self.engine.spec.calibration, len(waveform) / SAMPLE_RATE_HZ
        logit = float(logits.mean())
        exclusion_reasons = gate.result()
        decision = decide(logit, exclusion_reasons, calibration)
        return VoiceDetection(
            verdict=decision.verdict,
            probability=decision.probability,
            logit=logit,
            reasons=decision.reasons,
            segments=segments,
            duration_s=duration_s,
            spectrogram=spectrogram.result(),
            heatmap=None if class_maps is None else _heatmap(class_maps, segments, duration_s, calibration),
            elapsed_ms=(time.perf_counter() - started) * 1e3,
            model_sha256=self.engine.model_sha256,
            error_rates=() if exclusion_reasons else self._error_rates(decision.probability),
        )

    @stage("score")
    def _score_windows(
        self, normalized: np.ndarray, pool: Executor
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[Segment, ...]]:
        """Return logits (N,), class maps (N, h, w) and segments of the windows with sound in a recording (T,)."""
        windows, starts_s = cut_windows(normalized)
        sounding = has_sound(windows)
        windows, starts_s = windows[sounding], starts_s[sounding]
        logits, class_maps = self._run(windows, pool)
        ends_s = starts_s + windows.shape[1] / SAMPLE_RATE_HZ
        calibration = self.engine.spec.calibration
        segments = tuple(
            Segment(start_s, end_s, logit, float(calibration.probability(logit)))
            for start_s, end_s, logit in zip(starts_s.tolist(), ends_s.tolist(), logits.tolist(), strict=True)
        )
        return logits, class_maps, segments

    def _run(self, windows: np.ndarray, pool: Executor) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits (N,) and class maps (N, h, w) of windows (N, W)."""
        batches = [windows[start : start + WINDOWS_PER_BATCH] for start in range(0, len(windows), WINDOWS_PER_BATCH)]
        parts = list(pool.map(lambda batch: self.engine.run(network_input(batch)), batches))
        logits = np.concatenate([logits for logits, _ in parts])
        class_maps = [class_map for _, class_map in parts if class_map is not None]
        return logits, np.concatenate(class_maps) if class_maps else None

    def _error_rates(self, probability: float) -> tuple[ErrorRate, ...]:
        if self.reference_scores is None:
            return ()
        return self.reference_scores.error_rates(probability, REFERENCE_SIZE_PX)


def load_voice_detector(
    path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None
) -> VoiceDetector:
    """Load the voice network, and its reference scores where they were measured on this model.

    Args:
        path: the model file; None takes the project's own, models/voice.onnx or models/voice.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine; None takes every core.

    Raises:
        ModelError: unknown engine, a missing or foreign model file, or a damaged table of reference scores.
    """
    streams = min(threads or os.cpu_count() or 1, MAX_STREAMS)
    network = load_engine(VOICE_MODEL_FILES, path=path, engine=engine, threads=threads, streams=streams)
    return VoiceDetector(network, load_matching_reference_scores(VOICE_REFERENCE_SCORES_FILE, network.model_sha256))


def _heatmap(
    class_maps: np.ndarray, segments: tuple[Segment, ...], duration_s: float, calibration: Calibration
) -> np.ndarray:
    """Arrange the windows' class maps (N, h, w) over the recording, with the rows of `mel_spectrogram`.

    Returns:
        (MEL_BANDS, columns) float32 in [0, 1], NEUTRAL where no window was analysed.
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
    heat[:, counts == 0] = NEUTRAL
    centres_hz = mel_edges_hz(MEL_BANDS)[1:-1]
    heatmap: np.ndarray = heat[(centres_hz / (SAMPLE_RATE_HZ / 2) * len(heat)).astype(int)]
    return heatmap


def _check_duration(waveform: np.ndarray) -> None:
    if len(waveform) < FFT_LENGTH:
        duration_ms, required_ms = (1e3 * count / SAMPLE_RATE_HZ for count in (len(waveform), FFT_LENGTH))
        raise UnreadableMedia(
            translatable("The recording holds {duration_ms} ms of sound; at least {required_ms} are needed.").format(
                duration_ms=f"{duration_ms:.0f}", required_ms=f"{required_ms:.0f}"
            )
        )


def _check_waveform(waveform: np.ndarray) -> np.ndarray:
    # Integers would be read as a recording far over full scale.
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating) or not np.isfinite(waveform).all():
        raise UnreadableMedia(
            translatable(
                "A recording given as an array must be (T,) float32 mono 16 kHz; this one is {shape} "
                "{dtype}, or holds values that are not numbers."
            ).format(shape=waveform.shape, dtype=waveform.dtype)
        )
    return waveform.astype(np.float32, copy=False)
