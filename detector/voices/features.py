"""Turn a recording into the input of the voice network: level, windows and spectrograms.

A window is never padded. A recording shorter than one window becomes one window of its own length, which the network
accepts as well.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from detector.media.videos import SAMPLE_RATE_HZ
from detector.models.spec import VoiceInput

LEVEL = 10 ** (-26 / 20)  # root mean square of the sounding frames, full scale = 1; that of the training clips
SOUNDING_DB = 30  # below the loudest frames; a quieter frame is a pause
WINDOW_S, HOP_S = 2.5, 1.25  # a window as long as most training clips: how a voice moves shows over some syllables
# Samples: 64 ms every 16 ms, long enough to resolve the ripples and lines that a vocoder leaves.
FFT_LENGTH, FFT_HOP_LENGTH = 1024, 256
BANDS = FFT_LENGTH // 2  # linear, 16 Hz each, to 8 kHz; mel bands would blur these ripples
# Samples: 32 ms every 8 ms, short enough to follow the movement from sound to sound.
SHORT_FFT_LENGTH, SHORT_FFT_HOP_LENGTH = FFT_LENGTH // 2, FFT_HOP_LENGTH // 2
LEVEL_GROUPS, LEVEL_TOP = 56, 7 / 8  # groups of bands up to 7 kHz, whose levels the cepstra are made of
ENCODER_BANDS = 80  # mel bands of the short frames, which the pretrained speech encoder expects
# Samples: 16 ms every 4 ms and 8 ms every 2 ms. Such wideband spectrograms show single pulses of the vocal folds.
WIDEBAND_FFT_LENGTHS = (FFT_LENGTH // 4, FFT_LENGTH // 8)
WIDEBAND_HOPS = 4  # in a frame
# Rows of each wideband spectrogram: bands up to LEVEL_TOP of all its frames in a hop of the long frames.
WIDEBAND_ROWS = round(FFT_HOP_LENGTH * WIDEBAND_HOPS * LEVEL_TOP / 2)
# Of the network's input: the bands of a long frame and its levels, then levels and mel bands of the two short frames in
# its middle, then the bands of the wideband frames there.
ROWS = BANDS + 3 * LEVEL_GROUPS + 2 * ENCODER_BANDS + len(WIDEBAND_FFT_LENGTHS) * WIDEBAND_ROWS
FLOOR_DB = -70  # of a band against full scale; noise between words depends on the studio more than on the voice
PAUSE_DB = 20  # below LEVEL; a window as quiet as that is not analysed

# Training and inference must agree on these values; the weights file stores them.
VOICE_INPUT = VoiceInput(
    sample_rate_hz=SAMPLE_RATE_HZ,
    level=LEVEL,
    window_s=WINDOW_S,
    hop_s=HOP_S,
    fft_length=FFT_LENGTH,
    fft_hop_length=FFT_HOP_LENGTH,
    bands=BANDS,
    floor_db=FLOOR_DB,
    short_fft_length=SHORT_FFT_LENGTH,
    encoder_bands=ENCODER_BANDS,
    wideband_fft_length=WIDEBAND_FFT_LENGTHS[0],
)

MEL_BANDS = 80
FRAMES_PER_BLOCK = 512  # frames at once, or ten minutes would fill the memory
MAX_SPECTROGRAM_COLUMNS = 1000  # a longer recording is shown at a coarser resolution
SPECTROGRAM_RANGE_DB = (-75, -25)  # black and white of the displayed spectrogram

FRAME_LENGTH, HOP_LENGTH = 640, 320  # samples: frames of 40 ms every 20 ms, for levels and the quality gate


def normalize_level(waveform: np.ndarray) -> np.ndarray:
    """Scale a recording to the level of the training clips, so that loudness does not change the score.

    Args:
        waveform: (T,) float32 mono 16 kHz.

    Returns:
        (T,) float32 without offset; silence stays silence.
    """
    sound: np.ndarray = np.asarray(waveform, np.float32)
    if sound.size == 0:
        return sound
    sound = sound - sound.mean(dtype=np.float64).astype(np.float32)
    is_framed = len(sound) >= FRAME_LENGTH
    powers = frame_powers(sound) if is_framed else np.array([np.mean(np.square(sound, dtype=np.float64))])
    sounding = powers[powers >= loudest_power(powers) * 10 ** (-SOUNDING_DB / 10)]
    level = np.sqrt(sounding.mean())
    return sound * np.float32(LEVEL / level) if level > 0 else sound


def cut_windows(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a recording into windows of equal length that cover it from start to end.

    Args:
        waveform: (T,) float32 mono 16 kHz, T at least 1.

    Returns:
        windows (N, W) float32 and their start times in seconds (N,). W is WINDOW_S, or the whole recording where
        that is shorter; neighbours start at most HOP_S apart.
    """
    width = min(round(WINDOW_S * SAMPLE_RATE_HZ), len(waveform))
    room = len(waveform) - width
    count = 1 + int(np.ceil(room / round(HOP_S * SAMPLE_RATE_HZ)))
    starts = np.linspace(0, room, count).astype(int)
    return np.lib.stride_tricks.sliding_window_view(waveform, width)[starts], starts / SAMPLE_RATE_HZ


def has_sound(windows: np.ndarray) -> np.ndarray:
    """Return which windows are more than a pause.

    Args:
        windows: (N, W) float32 after `normalize_level`.

    Returns:
        (N,) booleans; all true where every window is a pause.
    """
    level = np.sqrt(np.mean(np.square(windows, dtype=np.float64), axis=1))
    loud: np.ndarray = level >= LEVEL * 10 ** (-PAUSE_DB / 20)
    return loud if loud.any() else ~loud


def network_input(windows: np.ndarray) -> np.ndarray:
    """Return the input of the voice network: the spectrograms of long, short and wideband frames, one above the other.

    Args:
        windows: (N, W) float32 after `normalize_level`, W at least FFT_LENGTH.

    Returns:
        (N, T, ROWS) float32 decibels: BANDS of a long frame, LEVEL_GROUPS levels of it, as many of each of its short
        frames, then ENCODER_BANDS of each short frame, then the bands of the wideband frames of each of
        WIDEBAND_FFT_LENGTHS, low frequencies first and one frame after the other.
    """
    long = power_spectrogram(windows)
    start = (FFT_LENGTH - SHORT_FFT_LENGTH) // 2  # of the first short frame, whose centre is that of the long one
    short = power_spectrogram(windows[:, start:], SHORT_FFT_LENGTH, SHORT_FFT_HOP_LENGTH)[:, : 2 * long.shape[1]]
    levels, mels = group_powers(short), filter_powers(short, encoder_filters())
    of_short = [levels[:, 0::2], levels[:, 1::2], mels[:, 0::2], mels[:, 1::2]]
    wideband = [wideband_powers(windows, length, long.shape[1]) for length in WIDEBAND_FFT_LENGTHS]
    return _to_decibels(np.concatenate([long, group_powers(long), *of_short, *wideband], axis=-1))


def wideband_powers(windows: np.ndarray, fft_length: int, count: int) -> np.ndarray:
    """Return the power spectra of the short frames in the middle of each of the first `count` long frames.

    Args:
        windows: (N, W) float32 after `normalize_level`, W at least FFT_LENGTH.
        fft_length: samples of a short frame, one of WIDEBAND_FFT_LENGTHS.
        count: at most the number of long frames.

    Returns:
        (N, count, WIDEBAND_ROWS) float32: the bands of one frame after the other.
    """
    start, hop = (FFT_LENGTH - fft_length) // 2, fft_length // WIDEBAND_HOPS
    powers = power_spectrogram(windows[:, start:], fft_length, hop)
    bands = round(powers.shape[-1] * LEVEL_TOP)
    return powers[:, : count * FFT_HOP_LENGTH // hop, :bands].reshape(len(windows), count, -1)


@cache
def encoder_filters() -> np.ndarray:
    """Return the mel filters (ENCODER_BANDS, SHORT_FFT_LENGTH / 2) of the speech encoder, for bands without the mean.

    The filters are triangles between edges that are even in Slaney's mel: linear to 1 kHz, logarithmic above. Each has
    the area of one band, so that white noise has the same power everywhere.

    Source:
        Slaney, "Auditory Toolbox", 1998, as in Whisper.
    """
    linear_end_hz, mels_per_hz, log_step = 1000.0, 3 / 200, np.log(6.4) / 27
    end_mel = linear_end_hz * mels_per_hz
    top_mel = end_mel + np.log(SAMPLE_RATE_HZ / 2 / linear_end_hz) / log_step
    mels = np.linspace(0, top_mel, ENCODER_BANDS + 2)
    edges = np.where(mels < end_mel, mels / mels_per_hz, linear_end_hz * np.exp(log_step * (mels - end_mel)))
    band_hz = SAMPLE_RATE_HZ / SHORT_FFT_LENGTH
    centres = band_hz * np.arange(1, SHORT_FFT_LENGTH // 2 + 1)
    heights = 2 * band_hz / (edges[2:] - edges[:-2])
    filters: np.ndarray = triangles(edges, centres) * heights[:, None]
    return filters.astype(np.float32)


def group_powers(powers: np.ndarray) -> np.ndarray:
    """Return the mean powers (..., LEVEL_GROUPS) of groups of neighbouring bands (..., bands), up to LEVEL_TOP."""
    used = powers[..., : round(powers.shape[-1] * LEVEL_TOP)]
    means: np.ndarray = used.reshape(*used.shape[:-1], LEVEL_GROUPS, -1).mean(axis=-1)
    return means


def filter_powers(powers: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return the powers (..., M) that filters (M, bands) pass of those of the bands (..., bands), all float32."""
    # NumPy's product would wake threads that take processor time from the network's for long after.
    rows, nothing = powers.reshape(-1, powers.shape[-1]), np.empty(0, np.float32)
    passed = np.asarray(cv2.gemm(rows, filters, 1, nothing, 0, flags=cv2.GEMM_2_T))
    return passed.reshape(*powers.shape[:-1], -1)


def log_spectrogram(windows: np.ndarray) -> np.ndarray:
    """Return the power of each linear band over time in decibels.

    Args:
        windows: (..., W) float32 after `normalize_level`, W at least FFT_LENGTH.

    Returns:
        (..., BANDS, T) float32, low frequencies first.
    """
    return np.swapaxes(_to_decibels(power_spectrogram(windows)), -1, -2)


def power_spectrogram(
    windows: np.ndarray, fft_length: int = FFT_LENGTH, fft_hop_length: int = FFT_HOP_LENGTH
) -> np.ndarray:
    """Return the power of each linear band over time.

    Args:
        windows: (..., W) float32 after `normalize_level`, W at least `fft_length`.
        fft_length, fft_hop_length: samples of a frame, and between the starts of frames.

    Returns:
        (..., T, fft_length / 2) float32, low frequencies first.
    """
    frames = np.lib.stride_tricks.sliding_window_view(windows, fft_length, axis=-1)[..., ::fft_hop_length, :]
    shape = np.hanning(fft_length)
    frames = frames * (shape / np.linalg.norm(shape)).astype(np.float32)
    powers = bands_of(packed_powers(frames.reshape(-1, fft_length)))
    return powers.reshape(*frames.shape[:-1], -1)


def packed_powers(frames: np.ndarray) -> np.ndarray:
    """Return the power spectra (N, L) of frames (N, L) float32; OpenCV takes a fifth of NumPy's time.

    OpenCV's order is band 0, band 1, 0, band 2, 0, ..., band L / 2.
    """
    spectra = cv2.dft(frames, flags=cv2.DFT_ROWS)
    powers: np.ndarray = cv2.mulSpectrums(spectra, spectra, cv2.DFT_ROWS, conjB=True)
    return powers


def bands_of(packed: np.ndarray) -> np.ndarray:
    """Return bands 1 to L / 2 of `packed_powers` (N, L), as (N, L / 2)."""
    return packed[:, 1::2]


def _to_decibels(powers: np.ndarray) -> np.ndarray:
    decibels: np.ndarray = np.log(powers + np.float32(10 ** (FLOOR_DB / 10)))  # several times as fast as log10
    decibels *= np.float32(10 / np.log(10))
    return decibels


def mel_spectrogram(normalized: np.ndarray) -> np.ndarray:
    """Return a mel spectrogram for display; the input of the network is `network_input`.

    Args:
        normalized: (T,) float32 mono 16 kHz after `normalize_level`.

    Returns:
        (MEL_BANDS, columns) float32 in [0, 1], low frequencies first, at most MAX_SPECTROGRAM_COLUMNS columns of equal
        duration. The scale is fixed: 0 and 1 are the ends of SPECTROGRAM_RANGE_DB. A recording shorter than
        FFT_LENGTH has no columns.
    """
    if len(normalized) < FFT_LENGTH:
        return np.zeros((MEL_BANDS, 0), np.float32)
    filters = mel_filters(MEL_BANDS, BANDS + 1)[:, 1:]  # the offset has no band
    block = FRAMES_PER_BLOCK * FFT_HOP_LENGTH
    blocks = range(0, len(normalized) - FFT_LENGTH + 1, block)
    length = block + FFT_LENGTH - FFT_HOP_LENGTH
    powers = np.concatenate([filter_powers(power_spectrogram(normalized[i : i + length]), filters) for i in blocks])
    columns = np.array_split(np.arange(len(powers)), min(MAX_SPECTROGRAM_COLUMNS, len(powers)))
    sums = np.add.reduceat(powers, [column[0] for column in columns])
    powers_db = 10 * np.log10(sums.T / [len(column) for column in columns] + 1e-12)
    low, high = SPECTROGRAM_RANGE_DB
    spectrogram: np.ndarray = np.clip((powers_db - low) / (high - low), 0, 1).astype(np.float32)
    return spectrogram


def mel_filters(bands: int, bins: int) -> np.ndarray:
    """Return triangular filters evenly spaced in mel, over the bins of a spectrum from 0 to 8 kHz.

    Returns:
        (bands, bins) float32.
    """
    return triangles(mel_edges_hz(bands), np.linspace(0, SAMPLE_RATE_HZ / 2, bins)).astype(np.float32)


def triangles(edges: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return triangles of height 1 at some places (P,); triangle i rises from edge i to i + 1 and falls to i + 2.

    Returns:
        (len(edges) - 2, P).
    """
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    heights: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return heights


def mel_edges_hz(bands: int) -> np.ndarray:
    """Return the edges of mel bands in Hz, (bands + 2,): band i begins at edge i, peaks at i + 1 and ends at i + 2."""
    edges: np.ndarray = 700 * (10 ** (np.linspace(0, np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), bands + 2)) - 1)
    return edges


def frame_powers(waveform: np.ndarray) -> np.ndarray:
    """Return the mean square of each frame of FRAME_LENGTH samples, every HOP_LENGTH samples.

    Args:
        waveform: (T,) float32 mono 16 kHz.

    Returns:
        (N,) float64; empty for a recording shorter than a frame.
    """
    if len(waveform) < FRAME_LENGTH:
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    sums_at_starts = sums[: len(sums) - FRAME_LENGTH : HOP_LENGTH]
    powers: np.ndarray = np.maximum(0, sums[FRAME_LENGTH::HOP_LENGTH] - sums_at_starts) / FRAME_LENGTH
    return powers


def loudest_power(powers: np.ndarray) -> float:
    """Return the 95th percentile of the powers of frames (N,); the maximum could be a single click."""
    return float(np.percentile(powers, 95))
