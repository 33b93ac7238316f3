"""Typical patches of wideband spectrograms, with which the voice network compares a recording.

They are found by k-means in recordings without their labels. A patch is centred, scaled to one contrast and whitened,
so that loudness and the slow course of the spectrum do not count, but how pulses begin, ring and decay does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.media.videos import read_audio
from detector.voices.features import (
    FFT_HOP_LENGTH,
    FFT_LENGTH,
    ROWS,
    SOUNDING_DB,
    WIDEBAND_FFT_LENGTHS,
    WIDEBAND_HOPS,
    WIDEBAND_ROWS,
    cut_windows,
    has_sound,
    network_input,
    normalize_level,
)
from training.fixed_weights import read_fixed_weights
from training.manifests import ROOT
from training.voice_manifest import Recording

PATCHES_FILE = ROOT / "models" / "sound_patches.npz"
PATCH_EPSILON = 4.0  # dB² added to a patch's variance, so that noise in the floor is not enlarged
WHITENING_SHARE = 0.05  # of the mean variance, added to that of each component
RESPONSE_THRESHOLD = 0.5  # of a whitened patch's product with a typical one
PATCHES_PER_RECORDING = 80
PATCH_SEED = 0


@dataclass(frozen=True)
class Dictionary:
    """Typical patches of one wideband spectrogram.

    Attributes:
        name: beginning of its layers' names.
        fft_length: samples of the spectrogram's frames, one of WIDEBAND_FFT_LENGTHS.
        frames, bands: size of a patch.
        stride: bands between the patches of a recording.
        patches: how many there are.
    """

    name: str
    fft_length: int
    frames: int
    bands: int
    stride: int
    patches: int

    @property
    def frames_per_hop(self) -> int:
        """The spectrogram's frames for each long frame."""
        return FFT_HOP_LENGTH * WIDEBAND_HOPS // self.fft_length


DICTIONARIES = (
    Dictionary("wideband_16", WIDEBAND_FFT_LENGTHS[0], 12, 6, 3, 96),  # 60 ms and 375 Hz
    Dictionary("wideband_8", WIDEBAND_FFT_LENGTHS[1], 16, 6, 2, 96),  # 38 ms and 750 Hz
)


@cache
def read_patch_filters(path: Path = PATCHES_FILE) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each of DICTIONARIES, kernel (frames * bands, patches) and bias (patches,), float32.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    return read_fixed_weights(path, (entry.name for entry in DICTIONARIES), "The typical patches of speech")


def learn_patch_filters(recordings: Sequence[Recording], target: Path = PATCHES_FILE) -> None:
    """Find typical patches in recordings, whatever their labels, and write their filters as .npz.

    Raises:
        SystemExit: the recordings have fewer patches than there are to find.
        DetectorError: a recording cannot be read.

    Source:
        Coates and Ng, "Learning Feature Representations with K-means", 2012.
    """
    rng = np.random.default_rng(PATCH_SEED)
    drawn: dict[str, list[np.ndarray]] = {entry.name: [_no_patches(entry)] for entry in DICTIONARIES}
    for recording in tqdm(recordings, desc="reading", unit="recording"):
        waveform = read_audio(recording.path)
        if len(waveform) < FFT_LENGTH:
            continue
        windows, _ = cut_windows(normalize_level(waveform))
        rows = network_input(windows[has_sound(windows)][:1])[0, :, ROWS - len(DICTIONARIES) * WIDEBAND_ROWS :]
        for number, entry in enumerate(DICTIONARIES):
            spectrogram = rows[:, number * WIDEBAND_ROWS :][:, :WIDEBAND_ROWS]
            drawn[entry.name].append(_draw_patches(spectrogram, entry, rng))
    arrays: dict[str, Any] = {}
    for entry in DICTIONARIES:
        patches = np.concatenate(drawn[entry.name])
        if len(patches) < entry.patches:
            raise SystemExit(f"{entry.patches} patches cannot be found in the {len(patches)} of these recordings.")
        kernel, bias = _fit_filters(patches, entry.patches)
        arrays |= {f"{entry.name}/kernel": kernel, f"{entry.name}/bias": bias}
    np.savez_compressed(target, **arrays)


def _draw_patches(rows: np.ndarray, entry: Dictionary, rng: np.random.Generator) -> np.ndarray:
    """Return up to PATCHES_PER_RECORDING patches (P, frames * bands) of rows (T, WIDEBAND_ROWS) with sound."""
    spectrogram = rows.reshape(len(rows) * entry.frames_per_hop, -1)
    if len(spectrogram) < entry.frames:
        return _no_patches(entry)
    patches = np.lib.stride_tricks.sliding_window_view(spectrogram, (entry.frames, entry.bands))
    peaks = np.lib.stride_tricks.sliding_window_view(spectrogram.max(axis=1), entry.frames).min(axis=1)
    starts = np.flatnonzero(peaks > spectrogram.max() - SOUNDING_DB)
    if not len(starts):
        return _no_patches(entry)
    chosen = rng.choice(starts, PATCHES_PER_RECORDING), rng.integers(patches.shape[1], size=PATCHES_PER_RECORDING)
    return patches[chosen].reshape(PATCHES_PER_RECORDING, -1)


def _no_patches(entry: Dictionary) -> np.ndarray:
    return np.zeros((0, entry.frames * entry.bands), np.float32)


def _fit_filters(patches: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (S, count) and bias (count,), float32, that compare a patch (S,) with typical ones of (N, S)."""
    from sklearn.cluster import MiniBatchKMeans

    centred = patches - patches.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + PATCH_EPSILON)
    mean = scaled.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(scaled, rowvar=False))
    whitening = (vectors / np.sqrt(variances + WHITENING_SHARE * variances.mean())) @ vectors.T
    whitened = (scaled - mean) @ whitening
    unit = whitened / np.linalg.norm(whitened, axis=1, keepdims=True)
    means = MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=PATCH_SEED).fit(unit).cluster_centers_
    kernel = whitening @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    return kernel.astype(np.float32), -(mean @ kernel).astype(np.float32)
