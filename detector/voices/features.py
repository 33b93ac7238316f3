"""From a recording to what the voice network takes: windows as spectrograms; and whether it holds speech to be judged.

A window is never padded: a recording shorter than one is a window of its own length, which the network takes as well.
"""

from __future__ import annotations

import numpy as np

from detector.media.videos import SAMPLE_RATE_HZ
from detector.models.spec import VoiceInput
from detector.results import Reason

LEVEL = 10 ** (-26 / 20)  # root mean square of the sounding frames, full scale = 1; that of the training clips
SOUNDING_DB = 30  # below the loudest frames; what is quieter is a pause
WINDOW_S, HOP_S = 1.0, 0.5
FFT_LENGTH, FFT_HOP_LENGTH = (
    1024,
    256,
)  # samples: 64 ms every 16 ms, long enough to tell the ripples and lines a vocoder leaves
BANDS = FFT_LENGTH // 2  # linear, 16 Hz each, to 8 kHz; mel bands would blur just those ripples
FLOOR_DB = -70  # of a band against full scale; the room between words says more of the studio than of the voice
PAUSE_DB = 20  # below LEVEL: a window as quiet as that is not judged

# Training and inference must agree on these; they travel in the weights file.
VOICE_INPUT = VoiceInput(
    sample_rate_hz=SAMPLE_RATE_HZ,
    level=LEVEL,
    window_s=WINDOW_S,
    hop_s=HOP_S,
    fft_length=FFT_LENGTH,
    fft_hop_length=FFT_HOP_LENGTH,
    bands=BANDS,
    floor_db=FLOOR_DB,
)

MEL_BANDS = 80
MAX_SPECTROGRAM_COLUMNS = 1000  # a longer recording is shown coarser
SPECTROGRAM_RANGE_DB = (-75, -25)  # black and white of the picture to look at

# Scope. "Clips" are the 465 training clips (trimmed speech of 1 to 4 s, real and fake), each as stored and once damaged
# as in training; "music" 32 synthesised pieces of notes, chords and drums.
SILENT_DB = -60  # of the loudest frames: 16 bits have 6 left there; the quietest damaged clip has -33
MIN_SPEECH_S = 1.0  # of sounding frames
MIN_RANGE_DB = 12  # between loud and quiet frames: 99 of 100 clips have 15; in noise as loud as the voice it is 8
MIN_VOICED = 0.12  # share of the sounding frames with a pitch: 99 of 100 clips have .3; white and pink noise 0 to .2
PERIODIC = 0.6  # autocorrelation at the pitch from which a frame counts as voiced
MIN_GLIDE = 0.12  # semitones from one voiced frame to the next, the median: speech glides (99 of 100 clips .2)
MAX_SUSTAINED = 0.75  # likeness of fine spectra 160 ms apart: held notes keep theirs; 99 of 100 damaged clips have .73
PITCH_HZ = (60, 400)
FRAME_LENGTH, HOP_LENGTH = 640, 320  # samples: frames of 40 ms every 20 ms, for all of the above
SUSTAIN = 4  # frames of twice that step: 160 ms
FRAMES_PER_BLOCK = 512  # frames at once, or ten minutes would fill the memory


def normalize_level(waveform: np.ndarray) -> np.ndarray:
    """Bring a recording to the level of the training clips, so that loudness says nothing.

    Args:
        waveform: (T,) float32 mono 16 kHz.

    Returns:
        (T,) float32 without offset; silence stays silence.
    """
    sound = np.asarray(waveform, np.float32)
    if sound.size == 0:
        return sound
    sound = sound - sound.mean(dtype=np.float64).astype(np.float32)
    powers = _powers(sound) if len(sound) >= FRAME_LENGTH else np.array([np.mean(np.square(sound, dtype=np.float64))])
    sounding = powers[powers >= _loudest(powers) * 10 ** (-SOUNDING_DB / 10)]
    level = np.sqrt(sounding.mean())
    return sound * np.float32(LEVEL / level) if level > 0 else sound


def cut_windows(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a recording into windows of equal length that cover it from end to end.

    Args:
        waveform: (T,) float32 mono 16 kHz, T at least 1.

    Returns:
        windows (N, W) float32 and the seconds at which they begin (N,). W is WINDOW_S, or the whole recording where
        that is shorter; neighbours lie at most HOP_S apart.
    """
    width = min(round(WINDOW_S * SAMPLE_RATE_HZ), len(waveform))
    room = len(waveform) - width
    count = 1 + int(np.ceil(room / round(HOP_S * SAMPLE_RATE_HZ)))
    starts = np.linspace(0, room, count).astype(int)
    return np.lib.stride_tricks.sliding_window_view(waveform, width)[starts], starts / SAMPLE_RATE_HZ


def log_spectrogram(windows: np.ndarray) -> np.ndarray:
    """Return the power of each linear band over time in decibels.

    Args:
        windows: (..., W) float32 at the canonical level, W at least FRAME.

    Returns:
        (..., BANDS, T) float32, low frequencies first.
    """
    frames = np.lib.stride_tricks.sliding_window_view(windows, FFT_LENGTH, axis=-1)[..., ::FFT_HOP_LENGTH, :]
    shape = np.hanning(FFT_LENGTH).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames * shape)[..., 1:])) / np.square(shape).sum()
    return np.swapaxes(10 * np.log10(power + np.float32(10 ** (FLOOR_DB / 10))), -1, -2)


def has_sound(windows: np.ndarray) -> np.ndarray:
    """Tell which windows (N, W) at the canonical level are more than a pause, (N,) booleans; all where none is."""
    level = np.sqrt(np.mean(np.square(windows, dtype=np.float64), axis=1))
    loud = level >= LEVEL * 10 ** (-PAUSE_DB / 20)
    return loud if loud.any() else ~loud


def mel_spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return a mel spectrogram to be looked at; the network sees `log_spectrogram`.

    Args:
        waveform: (T,) float32 mono 16 kHz.

    Returns:
        (MEL_BANDS, columns) float32 in [0, 1], low frequencies first, at most PICTURE_COLUMNS columns of equal time;
        the scale is fixed, PICTURE_DB at the canonical level. No columns for a recording shorter than a frame.
    """
    sound = normalize_level(waveform)
    columns = min(MAX_SPECTROGRAM_COLUMNS, 1 + (len(sound) - FFT_LENGTH) // FFT_HOP_LENGTH)
    if len(sound) < FFT_LENGTH:
        return np.zeros((MEL_BANDS, 0), np.float32)
    filters, shape = mel_filters(MEL_BANDS, BANDS + 1), np.hanning(FFT_LENGTH).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, FFT_LENGTH)
    picture = np.empty((MEL_BANDS, columns), np.float32)
    for column, starts in enumerate(np.array_split(np.arange(0, len(frames), FFT_HOP_LENGTH), columns)):
        power = np.square(np.abs(np.fft.rfft(frames[starts] * shape))).mean(axis=0)
        picture[:, column] = filters @ power
    power_db = 10 * np.log10(picture / np.square(shape).sum() + 1e-12)
    low, high = SPECTROGRAM_RANGE_DB
    return np.clip((power_db - low) / (high - low), 0, 1).astype(np.float32)


def speech_exclusion_reasons(waveform: np.ndarray) -> tuple[Reason, ...]:
    """Tell why a recording cannot be judged, before it is.

    Args:
        waveform: (T,) float32 mono 16 kHz.

    Returns:
        Reasons, none for speech: SILENT alone; or any of TOO_SHORT, NO_SPEECH and NOISY.

    Source:
        Scheirer and Slaney, "Construction and evaluation of a robust multifeature speech/music discriminator", 1997,
        for the way; the features are our own.
    """
    powers = _powers(np.asarray(waveform, np.float32))
    if len(powers) == 0:
        return (Reason.TOO_SHORT,)
    if 10 * np.log10(_loudest(powers) + 1e-12) < SILENT_DB:
        return (Reason.SILENT,)
    sound = normalize_level(waveform)
    levels_db = 10 * np.log10(_powers(sound) + 1e-12)
    sounding = levels_db >= np.percentile(levels_db, 95) - SOUNDING_DB
    periodicity, pitch = _pitch(sound)
    voiced = sounding & (periodicity >= PERIODIC)
    together = voiced[1:] & voiced[:-1]
    steps = np.abs(np.diff(12 * np.log2(pitch)))[together]
    glide = float(np.median(steps)) if len(steps) else 0.0
    found = {
        Reason.TOO_SHORT: sounding.sum() * HOP_LENGTH < MIN_SPEECH_S * SAMPLE_RATE_HZ,
        Reason.NO_SPEECH: voiced.sum() < MIN_VOICED * sounding.sum()
        or glide < MIN_GLIDE
        or _sustained(sound) > MAX_SUSTAINED,
        Reason.NOISY: float(np.ptp(np.percentile(levels_db, (10, 95)))) < MIN_RANGE_DB,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def mel_filters(bands: int, bins: int) -> np.ndarray:
    """Return triangles evenly spaced in mel, (bands, bins) float32, over the bins of a spectrum from 0 to 8 kHz."""
    edges, bin_hz = mel_edges_hz(bands), np.linspace(0, SAMPLE_RATE_HZ / 2, bins)
    rising = (bin_hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bin_hz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def mel_edges_hz(bands: int) -> np.ndarray:
    """Return where mel bands begin, peak and end, (bands + 2,): band i reaches from i over i + 1 to i + 2."""
    return 700 * (10 ** (np.linspace(0, np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), bands + 2)) - 1)


def _powers(sound: np.ndarray) -> np.ndarray:
    """Return the mean square of each frame."""
    if len(sound) < FRAME_LENGTH:
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    return np.maximum(0, sums[FRAME_LENGTH::HOP_LENGTH] - sums[: len(sums) - FRAME_LENGTH : HOP_LENGTH]) / FRAME_LENGTH


def _loudest(powers: np.ndarray) -> float:
    return float(np.percentile(powers, 95))  # one click is not loudness


def _pitch(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how periodic each frame is, at most about 1, and at which frequency.

    Source:
        Boersma, "Accurate short-term analysis of the fundamental frequency", 1993: the autocorrelation of a windowed
        frame over that of the window.
    """
    shape, size = np.hanning(FRAME_LENGTH).astype(np.float32), 1024  # the lags looked at do not wrap around
    own = np.fft.irfft(np.square(np.abs(np.fft.rfft(shape, size))))
    shortest, longest = SAMPLE_RATE_HZ // PITCH_HZ[1], SAMPLE_RATE_HZ // PITCH_HZ[0]
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME_LENGTH)[::HOP_LENGTH]
    likeness, lags = np.zeros(len(frames)), np.zeros(len(frames), int)
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        alike = np.fft.irfft(np.square(np.abs(np.fft.rfft(frames[start : start + FRAMES_PER_BLOCK] * shape, size))))
        alike /= alike[:, :1] + 1e-9
        alike = alike[:, shortest : longest + 1] / (own[shortest : longest + 1] / own[0])
        likeness[start : start + FRAMES_PER_BLOCK], lags[start : start + FRAMES_PER_BLOCK] = (
            alike.max(axis=1),
            alike.argmax(axis=1),
        )
    return likeness, SAMPLE_RATE_HZ / (lags + shortest)


def _sustained(sound: np.ndarray) -> float:
    """Return how alike the fine spectra SUSTAIN frames apart are on average, from -1 to 1."""
    size = 2048  # samples: 8 Hz a bin
    if len(sound) < size + SUSTAIN * 2 * HOP_LENGTH:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: 2 * HOP_LENGTH]
    total, shape = 0.0, np.hanning(size).astype(np.float32)
    for start in range(0, len(frames) - SUSTAIN, FRAMES_PER_BLOCK):
        spectra = np.abs(np.fft.rfft(frames[start : start + FRAMES_PER_BLOCK + SUSTAIN] * shape))[
            :, 12:512
        ]  # 94 Hz to 4 kHz
        spectra = np.log(spectra + 1e-4)
        spectra -= spectra.mean(axis=1, keepdims=True)
        spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-9
        total += float(np.sum(spectra[SUSTAIN:] * spectra[:-SUSTAIN]))
    return total / (len(frames) - SUSTAIN)
