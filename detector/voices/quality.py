"""The quality gate for recordings: which of them get a verdict.

The thresholds were measured on "clips" and "music". Clips are the 465 training clips (trimmed speech of 1 to 4 s, real
and fake), each as stored and once degraded as in training. Music is 32 synthesised pieces of notes, chords and drums.
"""

from __future__ import annotations

import cv2
import numpy as np

from detector.media.videos import SAMPLE_RATE_HZ
from detector.results import Reason
from detector.voices.features import (
    FRAME_LENGTH,
    FRAMES_PER_BLOCK,
    HOP_LENGTH,
    SOUNDING_DB,
    bands_of,
    frame_powers,
    loudest_power,
    packed_powers,
)

SILENT_DB = -60  # of the loudest frames: 16 bits have 6 left there; the quietest degraded clip has -33
MIN_SPEECH_S = 1.0  # of sounding frames
MIN_RANGE_DB = 12  # between loud and quiet frames: 99 of 100 clips have 15; in noise as loud as the voice it is 8
MIN_VOICED = 0.12  # of the sounding frames with a pitch: 99 of 100 clips have .3; white and pink noise 0 to .2
PERIODIC = 0.6  # autocorrelation at the pitch from which a frame counts as voiced
MIN_GLIDE = 0.12  # semitones from one voiced frame to the next, the median: speech glides (99 of 100 clips .2)
MAX_SUSTAINED = 0.75  # similarity of fine spectra 160 ms apart: high for held notes; 99 of 100 degraded clips have .73
PITCH_HZ = (60, 400)
PITCH_FFT_LENGTH = 1024  # samples; long enough that the lags in PITCH_HZ do not wrap around
SUSTAIN_FFT_LENGTH = 2048  # samples: 8 Hz a bin
SUSTAIN_HOP_LENGTH = 2 * HOP_LENGTH
SUSTAIN_BINS = slice(11, 511)  # 94 Hz to 4 kHz; the offset is no bin
SUSTAIN = 4  # hops of SUSTAIN_HOP_LENGTH: 160 ms
MIN_MOVEMENT_DB = 3.4  # of the envelope: the mouth moves it in speech (99 of 100 degraded clips 3.5), not in a hum
LOUD_DB = 20  # below the loudest frames; in quieter frames noise may move the envelope
ENVELOPE_BINS, ENVELOPE_BANDS = slice(5, 255), 10  # of PITCH_FFT_LENGTH: 94 Hz to 4 kHz in bands of 390 Hz
ENVELOPE_FLOOR = 5e-5  # added to a band's power, 41 dB below the mean over all bands of a frame at LEVEL


def speech_exclusion_reasons(waveform: np.ndarray, normalized: np.ndarray) -> tuple[Reason, ...]:
    """Return the reasons that exclude a recording from a verdict, whatever its score.

    Args:
        waveform: (T,) float32 mono 16 kHz.
        normalized: (T,) float32, the same recording after `normalize_level`.

    Returns:
        No reasons for speech. SILENT alone, or any of TOO_SHORT, NO_SPEECH and NOISY.

    Source:
        Scheirer and Slaney, "Construction and evaluation of a robust multifeature speech/music discriminator", 1997,
        for the approach; the features are our own.
    """
    powers = frame_powers(np.asarray(waveform, np.float32))
    if len(powers) == 0:
        return (Reason.TOO_SHORT,)
    if 10 * np.log10(loudest_power(powers) + 1e-12) < SILENT_DB:
        return (Reason.SILENT,)
    levels_db = 10 * np.log10(frame_powers(normalized) + 1e-12)
    sounding = levels_db >= np.percentile(levels_db, 95) - SOUNDING_DB
    reasons = {
        Reason.TOO_SHORT: sounding.sum() * HOP_LENGTH < MIN_SPEECH_S * SAMPLE_RATE_HZ,
        Reason.NO_SPEECH: not _resembles_speech(normalized, sounding),
        Reason.NOISY: float(np.ptp(np.percentile(levels_db, (10, 95)))) < MIN_RANGE_DB,
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def _resembles_speech(normalized: np.ndarray, sounding: np.ndarray) -> bool:
    """Return whether enough sounding frames have a pitch, the pitch glides, and spectra and their envelope move."""
    periodicity, pitch_hz, bands = _analyse_frames(normalized)
    voiced = sounding & (periodicity >= PERIODIC)
    if voiced.sum() < MIN_VOICED * sounding.sum():
        return False
    consecutive = voiced[1:] & voiced[:-1]
    steps = np.abs(np.diff(12 * np.log2(pitch_hz)))[consecutive]
    glide = float(np.median(steps)) if len(steps) else 0.0
    if glide < MIN_GLIDE or _sustained_similarity(normalized) > MAX_SUSTAINED:
        return False
    return _envelope_movement_db(normalized, bands) >= MIN_MOVEMENT_DB


def _analyse_frames(normalized: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the periodicity (N,), at most about 1, the pitch in Hz (N,) and the bands (N, ENVELOPE_BANDS) of frames.

    Source:
        Boersma, "Accurate short-term analysis of the fundamental frequency", 1993: the autocorrelation of a windowed
        frame over that of the window.
    """
    shape = np.hanning(FRAME_LENGTH).astype(np.float32)
    own = _autocorrelation(_pitch_powers(shape[None]))[0]
    shortest, longest = SAMPLE_RATE_HZ // PITCH_HZ[1], SAMPLE_RATE_HZ // PITCH_HZ[0]
    frames = np.lib.stride_tricks.sliding_window_view(normalized, FRAME_LENGTH)[::HOP_LENGTH]
    periodicity, lags = np.zeros(len(frames)), np.zeros(len(frames), int)
    bands = np.zeros((len(frames), ENVELOPE_BANDS), np.float32)
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        block = slice(start, start + FRAMES_PER_BLOCK)
        powers = _pitch_powers(frames[block] * shape)
        used = bands_of(powers)[:, ENVELOPE_BINS]
        bands[block] = used.reshape(len(used), ENVELOPE_BANDS, -1).mean(axis=2)
        correlation = _autocorrelation(powers)
        power = correlation[:, :1] + 1e-9
        correlation = correlation[:, shortest : longest + 1] / (own[shortest : longest + 1] / own[0]) / power
        periodicity[block], lags[block] = correlation.max(axis=1), correlation.argmax(axis=1)
    return periodicity, SAMPLE_RATE_HZ / (lags + shortest), bands


def _pitch_powers(frames: np.ndarray) -> np.ndarray:
    """Return `packed_powers` (N, PITCH_FFT_LENGTH) of frames (N, FRAME_LENGTH)."""
    return packed_powers(np.pad(frames, ((0, 0), (0, PITCH_FFT_LENGTH - FRAME_LENGTH))))


def _autocorrelation(powers: np.ndarray) -> np.ndarray:
    """Return the autocorrelation by lag in samples of frames with these `packed_powers` (N, L)."""
    correlation: np.ndarray = cv2.dft(powers, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_ROWS)
    return correlation


def _sustained_similarity(normalized: np.ndarray) -> float:
    """Return the mean similarity of fine spectra SUSTAIN hops apart, from -1 to 1; 0 for a too short recording."""
    if len(normalized) < SUSTAIN_FFT_LENGTH + SUSTAIN * SUSTAIN_HOP_LENGTH:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(normalized, SUSTAIN_FFT_LENGTH)[::SUSTAIN_HOP_LENGTH]
    total, shape = 0.0, np.hanning(SUSTAIN_FFT_LENGTH).astype(np.float32)
    for start in range(0, len(frames) - SUSTAIN, FRAMES_PER_BLOCK):
        block = frames[start : start + FRAMES_PER_BLOCK + SUSTAIN]
        spectra = np.log(np.sqrt(bands_of(packed_powers(block * shape))[:, SUSTAIN_BINS]) + 1e-4)
        spectra -= spectra.mean(axis=1, keepdims=True)
        spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-9
        total += float(np.sum(spectra[SUSTAIN:] * spectra[:-SUSTAIN]))
    return total / (len(frames) - SUSTAIN)


def _envelope_movement_db(normalized: np.ndarray, bands: np.ndarray) -> float:
    """Return how far the levels of bands (N, ENVELOPE_BANDS), relative to their frame, deviate over time on average."""
    powers = frame_powers(normalized)
    loud = powers >= np.percentile(powers, 95) * 10 ** (-LOUD_DB / 10)
    levels_db = 10 * np.log10(bands[loud] + ENVELOPE_FLOOR)
    return float((levels_db - levels_db.mean(axis=1, keepdims=True)).std(axis=0).mean())
