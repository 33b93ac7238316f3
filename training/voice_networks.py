"""The Keras graph of the voice network: log spectrogram in, one linear logit and its class map out.

What a vocoder leaves is a texture, not an event: ripples between neighbouring frequencies, steady lines, steps that are
too even, harmonics that are too clear. Small fixed filters therefore run over the fine structure of the spectrogram.
Their responses are averaged over the time with sound, for each group of neighbouring bands, as three statistics: the
magnitude, the soft sign, and the magnitude of the signed mean. The spread of each group's level is a fourth. A linear
layer weights the statistics. Only its weights are learned, because there are only a few hundred training voices. The
mean level of a band is not used: the microphone sets it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

VOICE_GROUPS = 32  # of neighbouring bands, each with weights of its own
VOICE_ROWS = 8  # of the class map; single groups have opposite signs, and their map would be a chequerboard
VOICE_SOUNDING_DB = 30.0  # below the loudest; quieter frames are pauses
VOICE_SMOOTH = 21  # bands: the detail is what remains after their mean is subtracted
VOICE_LIMIT = 4.0  # of a standardised value; a single odd window must not decide
VOICE_EPSILON = 1e-6  # added to a variance; those of the harmonics are near 1e-2
# Over frequency and time: the detail itself, its step to the next band and its step to the next frame.
VOICE_FILTERS = (
    np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32),
    np.array([[0, -1, 0], [0, 1, 0], [0, 0, 0]], np.float32),
    np.array([[0, 0, 0], [-1, 1, 0], [0, 0, 0]], np.float32),
)
WAVES_PER_GROUP = 8  # filters for the harmonics: four rates of ripple, a cosine and a sine each


def build_voice_network(bands: int) -> keras.Model:
    """Build the voice network with the outputs `logit` (N, 1) and `class_map` (N, VOICE_ROWS, 1, 1).

    The time axis is free. The mean of the map is the logit. The harmonics belong to no frequency, so their part of the
    logit is spread evenly over the rows. `set_linear_weights` sets the learned weights.

    Args:
        bands: linear bands of the spectrogram, a multiple of 64.

    Returns:
        keras.Model from (N, bands, T, 1) float32 decibels, low frequencies first.

    Source:
        Okabe et al., "Attentive Statistics Pooling for Deep Speaker Embedding", arXiv 1803.10963, for statistics as
        pooling, though the attention here depends on the level only; Noll, "Cepstrum Pitch Determination", 1967, for
        the harmonics.
    """
    import keras

    # The parts use layers only: Keras loads nothing else from an .h5 file. Layer names without a meaning are numbered
    # in the order of construction, and a test compares them with the shipped model's.
    layers = keras.layers
    decibels = keras.Input((bands, None, 1), name="decibels")
    attention = _attend_to_sound(decibels)
    spread = _measure_spread(decibels, attention)
    smooth = layers.AveragePooling2D((VOICE_SMOOTH, 1), 1, "same", name="smooth")(decibels)
    detail = layers.Subtract(name="detail")([decibels, smooth])
    texture = layers.Flatten()(layers.Concatenate()([spread, *_measure_texture(detail, attention)]))
    harmonics = _measure_harmonics(detail, attention)
    statistics = layers.Concatenate(name="statistics")([texture, harmonics])
    class_map = _add_linear_head(statistics, texture.shape[1])
    logit = layers.GlobalAveragePooling2D(dtype="float32", name="logit")(class_map)
    network = keras.Model(decibels, {"logit": logit, "class_map": class_map}, name="voice")
    network.get_layer("filters").set_weights([np.stack(VOICE_FILTERS, axis=-1)[:, :, None]])
    waves = network.get_layer("waves")
    waves.set_weights([_ripple_filters(waves.kernel_size[0], WAVES_PER_GROUP // 2 * VOICE_GROUPS)[:, None, None]])
    return network


def set_linear_weights(
    network: keras.Model, mean: np.ndarray, variance: np.ndarray, weights: np.ndarray, bias: float
) -> None:
    """Set the learned weights of a voice network.

    The logit becomes the sum of `weights` times the statistics, standardised and clipped to VOICE_LIMIT, plus `bias`.

    Args:
        network: from `build_voice_network`; changed in place.
        mean, variance, weights: (S,) of the network's layer "statistics".
        bias: of the logit.
    """
    network.get_layer("standard").set_weights([mean, variance])
    network.get_layer("votes").set_weights([np.reshape(weights, (1, 1, -1, 1))])
    dense = network.get_layer("bias")
    dense.set_weights([np.ones_like(dense.get_weights()[0]), np.array([bias])])


def describe_layers(network: keras.Model) -> str:
    """Return the class, settings and inputs of each layer as JSON.

    Keras numbers layers through a session, so that a second network has other names. Here each name is replaced by the
    layer's position: networks that compute the same have one description.
    """
    config = network.get_config()
    positions = {layer["name"]: position for position, layer in enumerate(config["layers"])}
    graph = {key: config[key] for key in ("layers", "input_layers", "output_layers")}
    return json.dumps(_replace_names(graph, positions), sort_keys=True)


def _replace_names(value: Any, positions: dict[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _replace_names(entry, positions) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_names(entry, positions) for entry in value]
    return positions.get(value, value) if isinstance(value, str) else value


def _attend_to_sound(decibels: keras.KerasTensor) -> keras.KerasTensor:
    """Return the weight (N, T, 1) of each frame: equal for frames with sound, next to none for pauses."""
    from keras import layers

    peaks = layers.MaxPooling2D((decibels.shape[1], 1), name="peaks")(decibels)
    loudest = layers.GlobalMaxPooling2D(keepdims=True, name="loudest")(peaks)
    # Decibels that a frame lacks to count as sound; one decibel reduces the weight to e^-5.
    missing = layers.Rescaling(-1.0, -VOICE_SOUNDING_DB)(layers.Subtract()([peaks, loudest]))
    missing = layers.Reshape((-1, 1))(layers.ReLU(name="missing")(missing))
    return layers.Softmax(axis=1, name="share")(layers.Rescaling(-5.0)(missing))


def _measure_spread(decibels: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mean deviation of each group's level from its mean over time (N, VOICE_GROUPS, 1, 1)."""
    from keras import layers

    level = _average_groups(decibels)
    deviation = layers.Subtract()([level, _average_time(level, attention)])
    return _average_time(_absolute(deviation), attention)


def _measure_texture(detail: keras.KerasTensor, attention: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return magnitude, soft sign and magnitude of the mean of each filter, all (N, VOICE_GROUPS, 1, filters)."""
    from keras import layers

    filters = layers.Conv2D(len(VOICE_FILTERS), 3, padding="same", use_bias=False, trainable=False, name="filters")
    responses = filters(detail)
    magnitude = _average_groups(_average_time(_absolute(responses), attention))
    signs = layers.Activation("tanh")(layers.Rescaling(0.1)(responses))
    sign = _average_groups(_average_time(signs, attention))
    steady = _average_groups(_absolute(_average_time(responses, attention)))
    return [magnitude, sign, steady]


def _measure_harmonics(detail: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Return how strongly the detail ripples over 125 Hz to 4 kHz, by rate of ripple, (N, VOICE_GROUPS)."""
    from keras import layers

    bands = detail.shape[1]
    first, last = bands // 64, bands // 2  # 125 Hz to 4 kHz
    voiced = layers.Cropping2D(((first, bands - last), (0, 0)))(detail)
    filter_count = WAVES_PER_GROUP * VOICE_GROUPS
    waves = layers.Conv2D(filter_count, (last - first, 1), use_bias=False, trainable=False, name="waves")(voiced)
    harmonics = layers.Reshape((-1, 1, 1))(_average_time(_absolute(waves), attention))
    return layers.Flatten()(layers.AveragePooling2D((WAVES_PER_GROUP, 1))(harmonics))


def _add_linear_head(statistics: keras.KerasTensor, texture_count: int) -> keras.KerasTensor:
    """Weight the standardised statistics (N, S) and return the class map (N, VOICE_ROWS, 1, 1).

    The first `texture_count` statistics are those of the groups, one group after the other; the rest are harmonics.
    """
    from keras import layers

    values = layers.BatchNormalization(center=False, scale=False, epsilon=VOICE_EPSILON, name="standard")(statistics)
    # Clip to VOICE_LIMIT on both sides; a ReLU clips from 0 up.
    values = layers.ReLU(2 * VOICE_LIMIT)(layers.Rescaling(1.0, VOICE_LIMIT)(values))
    values = layers.Reshape((1, 1, -1))(layers.Rescaling(1.0, -VOICE_LIMIT)(values))
    weighted = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="zeros", name="votes")(values)
    weighted = layers.Reshape((-1, 1, 1))(weighted)
    harmonics_count = statistics.shape[1] - texture_count
    of_groups = layers.Cropping2D(((0, harmonics_count), (0, 0)))(weighted)
    of_rows = layers.AveragePooling2D((texture_count // VOICE_ROWS, 1))(of_groups)
    of_rows = layers.Rescaling(float(texture_count))(
        of_rows
    )  # the mean over the rows is the sum of all weighted values
    of_harmonics = layers.Flatten()(layers.Cropping2D(((texture_count, 0), (0, 0)))(weighted))
    of_harmonics = layers.Dense(1, kernel_initializer="ones", name="bias")(of_harmonics)
    return layers.Add(dtype="float32", name="class_map")([of_rows, layers.Reshape((1, 1, 1))(of_harmonics)])


def _average_time(values: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Average values (N, rows, T, channels) over time by the frames' weights (N, T, 1), to (N, rows, 1, channels)."""
    from keras import layers

    rows, channels = values.shape[1], values.shape[3]
    frames = layers.Reshape((-1, rows * channels))(layers.Permute((2, 1, 3))(values))
    return layers.Reshape((rows, 1, channels))(layers.Dot(axes=1)([attention, frames]))


def _average_groups(values: keras.KerasTensor) -> keras.KerasTensor:
    """Average values (N, bands, T, channels) over each group of bands, to (N, VOICE_GROUPS, T, channels)."""
    from keras import layers

    return layers.AveragePooling2D((values.shape[1] // VOICE_GROUPS, 1))(values)


def _absolute(values: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    return layers.Maximum()([values, layers.Rescaling(-1.0)(values)])


def _ripple_filters(length: int, count: int) -> np.ndarray:
    """Return windowed cosines and sines, (length, 2 * count) float32, with 1, 1.5, 2 ... periods over the length."""
    phases = np.pi * np.arange(length)[:, None] * (np.arange(count) + 2) / length
    waves = np.hanning(length)[:, None] * np.exp(-1j * phases)
    return np.stack([waves.real, waves.imag], axis=-1).reshape(length, -1).astype(np.float32)
