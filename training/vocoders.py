"""Copies of real speech through vocoders, and degradations of recordings; the same seed gives the same sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import av
import numpy as np

from detector.media.videos import SAMPLE_RATE_HZ, read_audio
from detector.voices.features import mel_filters

RECIPE = 1  # raise it with every change of the sound that a seed gives: training keeps sounds between runs
WORLD_FRAME_MS = 5.0
ENVELOPE_SIZES = (24, 32, 40, 60)  # coefficients per frame that synthesisers reduce WORLD's spectral envelope to
GRIFFIN_LIM_FRAMES = (512, 800, 1024, 2048)  # samples
GRIFFIN_LIM_BANDS = (64, 80, 100, 128)  # of mel; synthesisers rebuild a spectrum from them
GRIFFIN_LIM_ITERATIONS = (8, 16, 32, 60)
MOMENTUM = 0.99  # of the fast Griffin-Lim algorithm
LEVELS_DB = (-36, -16)  # of a degraded recording against full scale; at the upper end the peaks are clipped
SNRS_DB = (10, 45)


@dataclass(frozen=True)
class Codec:
    """A lossy codec.

    Attributes:
        encoder, container: their names in FFmpeg.
        rates_hz: sampling rates that a sender may choose.
        kbps: the lowest and the highest bit rate; None for a codec with a fixed bit rate.
    """

    encoder: str
    container: str
    rates_hz: tuple[int, ...]
    kbps: tuple[int, int] | None


CODECS = {
    "mp3": Codec("libmp3lame", "mp3", (16_000, 24_000, 44_100), (32, 128)),
    "aac": Codec("aac", "mp4", (16_000, 24_000, 44_100), (32, 128)),
    "opus": Codec("libopus", "ogg", (16_000, 24_000, 48_000), (12, 64)),
    "mulaw": Codec("pcm_mulaw", "wav", (8_000, 16_000), None),
}


def world_copy(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Analyse speech into pitch, spectral envelope and aperiodicity and resynthesise it, as parametric synthesisers do.

    Args:
        waveform: (T,) float32 mono 16 kHz.
        rng: source of all randomness: how coarsely envelope and aperiodicity are coded.

    Returns:
        (T,) float32.

    Source:
        Morise et al., "WORLD: a vocoder-based high-quality speech synthesis system", 2016.
    """
    import pyworld  # installed for training only

    sound = waveform.astype(np.float64)
    coarse_pitch, times = pyworld.dio(sound, SAMPLE_RATE_HZ, frame_period=WORLD_FRAME_MS)
    pitch = pyworld.stonemask(sound, coarse_pitch, times, SAMPLE_RATE_HZ)
    envelope = pyworld.cheaptrick(sound, pitch, times, SAMPLE_RATE_HZ)
    aperiodicity = pyworld.d4c(sound, pitch, times, SAMPLE_RATE_HZ)
    transform = 2 * (envelope.shape[1] - 1)
    if rng.random() < 0.6:
        size = int(rng.choice(ENVELOPE_SIZES))
        coded = pyworld.code_spectral_envelope(envelope, SAMPLE_RATE_HZ, size)
        envelope = pyworld.decode_spectral_envelope(coded, SAMPLE_RATE_HZ, transform)
    if rng.random() < 0.6:
        coded = pyworld.code_aperiodicity(aperiodicity, SAMPLE_RATE_HZ)
        aperiodicity = pyworld.decode_aperiodicity(coded, SAMPLE_RATE_HZ, transform)
    copy = pyworld.synthesize(pitch, envelope, aperiodicity, SAMPLE_RATE_HZ, WORLD_FRAME_MS)
    return _fit_length(copy, len(waveform))


def griffin_lim_copy(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Discard the phase of speech and estimate another one, most often from a mel spectrum.

    Args:
        waveform: (T,) float32 mono 16 kHz.
        rng: source of all randomness: frame length, bands, initial phase and number of iterations.

    Returns:
        (T,) float32.

    Source:
        Griffin and Lim, 1984; Perraudin et al., "A fast Griffin-Lim algorithm", 2013, for the momentum.
    """
    size = int(rng.choice(GRIFFIN_LIM_FRAMES))
    spectrum = _transform(waveform, size)
    magnitude = np.abs(spectrum)
    if rng.random() < 0.7:
        filters = mel_filters(int(rng.choice(GRIFFIN_LIM_BANDS)), magnitude.shape[1])
        magnitude = np.maximum(0, magnitude @ filters.T @ np.linalg.pinv(filters).T)
    iterations = int(rng.choice(GRIFFIN_LIM_ITERATIONS))
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape, dtype=np.float32))
    previous = np.zeros_like(phase)
    for _ in range(iterations):
        found = _transform(_inverse(magnitude * phase, size, len(waveform)), size)
        ahead = found + MOMENTUM * (found - previous)
        phase, previous = ahead / np.maximum(np.abs(ahead), 1e-9), found
    return _inverse(magnitude * phase, size, len(waveform)).astype(np.float32)


VOCODERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "world": world_copy,
    "griffin_lim": griffin_lim_copy,
}


def _transform(waveform: np.ndarray, size: int) -> np.ndarray:
    """Return the short-time spectrum (frames, size / 2 + 1) with a hop of a quarter frame."""
    padded = np.pad(waveform, (size, 2 * size)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    return np.fft.rfft(frames * np.hanning(size + 1)[:-1].astype(np.float32))


def _inverse(spectrum: np.ndarray, size: int, length: int) -> np.ndarray:
    """Return the waveform (length,) with the nearest short-time spectrum (frames, size / 2 + 1)."""
    window = np.hanning(size + 1)[:-1]
    frames = np.fft.irfft(spectrum, size) * window
    hop, count = size // 4, len(frames)
    sound = np.zeros(hop * (count + 3))
    for part in range(4):  # a frame is four hops long
        piece = frames[:, part * hop : (part + 1) * hop].ravel()
        sound[part * hop : part * hop + len(piece)] += piece
    return sound[size : size + length] / 1.5  # the sum of four squared windows


def _fit_length(waveform: np.ndarray, length: int) -> np.ndarray:
    waveform = waveform[:length].astype(np.float32)
    return np.pad(waveform, (0, length - len(waveform)))


def recode(waveform: np.ndarray, codec: str, *, kbps: int | None = None, rate_hz: int | None = None) -> np.ndarray:
    """Return a recording after saving it once with a lossy codec.

    Args:
        waveform: (T,) float32 mono 16 kHz in [-1, 1].
        codec: a name of CODECS.
        kbps: bit rate, for a codec that has a choice.
        rate_hz: sampling rate of the saved file; None takes the first of the codec.

    Returns:
        (T,) float32 mono 16 kHz; shorter where the codec drops the end.
    """
    chosen, file = CODECS[codec], BytesIO()
    with av.open(file, "w", format=chosen.container) as container:
        stream = container.add_stream(chosen.encoder, rate=rate_hz or chosen.rates_hz[0], layout="mono")
        assert isinstance(stream, av.AudioStream)  # PyAV's annotation covers every kind of stream
        if kbps:
            stream.bit_rate = kbps * 1000
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform[None], np.float32), "fltp", "mono")
        sound.sample_rate, sound.pts = SAMPLE_RATE_HZ, 0
        for frame in (sound, None):
            container.mux(stream.encode(frame))
    return read_audio(file.getvalue())[: len(waveform)]


# Degradations on which thresholds are chosen and error rates are measured; None: the recording as it was stored.
WAVEFORM_DEGRADATIONS: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "stored": None,
    "mp3_48": lambda waveform: recode(waveform, "mp3", kbps=48),
    "aac_48": lambda waveform: recode(waveform, "aac", kbps=48),
    "opus_24": lambda waveform: recode(waveform, "opus", kbps=24),
    "telephone": lambda waveform: recode(waveform, "mulaw"),
    "noise_20db": lambda waveform: add_noise(waveform, 20, 1, np.random.default_rng(0)),
}


def degrade_waveform(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade a recording at random: room, microphone, noise, level, clipping and compression.

    Args:
        waveform: (T,) float32 mono 16 kHz.
        rng: source of all randomness.

    Returns:
        (T,) float32.
    """
    length = len(waveform)
    if rng.random() < 0.2:
        waveform = reverberate(waveform, rng.uniform(0.1, 0.6), rng)
    if rng.random() < 0.5:
        waveform = equalize(waveform, rng)
    if rng.random() < 0.4:
        waveform = add_noise(waveform, rng.uniform(*SNRS_DB), rng.uniform(0, 2), rng)
    # The range of levels that people record at; the loudest are clipped.
    waveform = waveform * (10 ** (rng.uniform(*LEVELS_DB) / 20) / max(_level(waveform), 1e-6))
    waveform = np.clip(waveform, -1, 1).astype(np.float32)
    for chance in (0.7, 0.2):
        if rng.random() < chance:
            name = str(rng.choice(list(CODECS)))
            codec = CODECS[name]
            kbps = codec.kbps and round(float(np.exp(rng.uniform(*np.log(codec.kbps)))))
            waveform = recode(waveform, name, kbps=kbps, rate_hz=int(rng.choice(codec.rates_hz)))
    return _fit_length(waveform, length)


def reverberate(waveform: np.ndarray, decay_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return the sound in a room whose reverberation falls by 60 dB within `decay_s`."""
    times = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    echo = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)
    echo *= rng.uniform(0.1, 0.8) / np.linalg.norm(echo)
    echo[0] = 1
    size = len(waveform) + len(echo)
    return np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(echo, size), size)[: len(waveform)]


def equalize(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the sound of another microphone: a smooth gain over the frequencies, often with a narrower band."""
    spectrum = np.fft.rfft(waveform)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    gain_db = np.interp(hz, np.linspace(0, SAMPLE_RATE_HZ / 2, 9), rng.normal(0, 4, 9))
    if rng.random() < 0.5:  # low-pass, as from a lower sampling rate or a codec
        gain_db -= 60 / (1 + np.exp((rng.uniform(3400, 8000) - hz) / rng.uniform(20, 200)))
    if rng.random() < 0.5:
        gain_db -= 40 / (1 + np.exp((hz - rng.uniform(30, 300)) / 20))
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(waveform))


def add_noise(waveform: np.ndarray, snr_db: float, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise whose power falls with the frequency to the power `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    noise = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 20) ** (-slope / 2), len(waveform))
    return waveform + noise * (_level(waveform) / max(_level(noise), 1e-9) * 10 ** (-snr_db / 20))


def _level(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
