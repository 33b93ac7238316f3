"""Synthetic sounds for the tests, (T,) float32 mono 16 kHz."""

import numpy as np

from training.samples import RATE_HZ, speak

__all__ = ["RATE_HZ", "hiss", "play", "speak", "tone", "vibrate", "whisper"]


def play(seconds=4.0, seed=0):
    """Return held notes, each with harmonics that fade."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(0.5 * RATE_HZ)) / RATE_HZ
    notes = []
    for _ in range(round(seconds / 0.5)):
        hz = 110 * 2 ** (rng.integers(0, 20) / 12)
        tone = sum(np.sin(2 * np.pi * hz * number * times) / number for number in range(1, 8))
        notes.append(tone * np.exp(-2 * times))
    return (0.2 * np.concatenate(notes)).astype(np.float32)


def hiss(seconds=3.0, seed=0):
    """Return white noise."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def whisper(seconds=4.0, seed=0, *, voiced_s=0.3):
    """Return noise in the syllables of `speak`, of which the first `voiced_s` seconds are voiced."""
    speech = speak(seconds, seed)
    times = np.arange(len(speech)) / RATE_HZ
    syllables = np.maximum(0, np.sin(2 * np.pi * 2 * times)) ** 0.5
    return np.where(times < voiced_s, speech, hiss(seconds, seed) * syllables).astype(np.float32)


def tone(hz, seconds=1.0, level=0.1):
    """Return a sine of one frequency."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def vibrate(seconds=3.0, *, pitch_hz=200, vibrato_hz=6.25):
    """Return one held note whose pitch swings by a semitone up and down; the default swing takes 160 ms."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch = pitch_hz * 2 ** (np.sin(2 * np.pi * vibrato_hz * times) / 12)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    return (0.2 * sum(np.sin(number * phase) / number for number in range(1, 8))).astype(np.float32)


def hum(seconds=5.0, seed=0, *, notes=False):
    """Return a voice with the mouth closed: the pitch drifts, or moves through notes, and the timbre stays.

    A breath follows every 0.9 seconds.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    turns = np.arange(0, seconds + 1, 0.6)
    pitch = 130 * 2 ** np.interp(
        times, turns, rng.choice(10, len(turns)) / 12 if notes else rng.uniform(0, 0.4, len(turns))
    )
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    sound = sum(np.sin(number * phase) / number**2 for number in range(1, 12))
    since_breath = times % 1.2
    loudness = np.clip(np.minimum(since_breath, 0.9 - since_breath) / 0.05, 0, 1)
    return (0.15 * sound * loudness + 0.0005 * rng.standard_normal(len(times))).astype(np.float32)
