"""The Keras graph of the voice network: log spectrogram in, one linear logit and its class map out.

What a vocoder leaves is a texture, not an event: ripples between neighbouring frequencies, steady lines, steps that are
too even, harmonics that are too clear. Small fixed filters therefore run over the fine structure of the spectrogram.
Their responses are averaged over the time with sound, for each group of neighbouring bands, as three statistics: the
magnitude, the soft sign, and the magnitude of the signed mean. The spread of each group's level is a fourth. Beside the
texture stand linear-frequency cepstra of long and of short frames: how far they, their step to the next frame and their
curvature swing over time, and how the steps of the lower ones correlate. Generators move too evenly from sound to
sound. Mean levels and mean cepstra are not used: the microphone sets them. The same swings are measured in the channels
of a speech encoder's first two convolutions, which were learned from much more speech. Last, wideband spectrograms, in
which single pulses of the vocal folds show, are compared patch by patch with typical patches of speech.

A linear layer weights the texture. Radial basis functions compare all statistics with those of the training windows:
one kernel for our own statistics, one for the encoder's, one for the patches of each wideband spectrogram. Only the
weights of these are learned here: a convolutional network trained on so few voices remembers them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.voices.features import BANDS, ENCODER_BANDS, LEVEL_GROUPS, ROWS, WIDEBAND_ROWS
from training.sound_patches import DICTIONARIES, PATCH_EPSILON, RESPONSE_THRESHOLD, Dictionary, read_patch_filters
from training.speech_encoder import ENCODER_CONVOLUTIONS, read_encoder_weights

if TYPE_CHECKING:
    import keras

VOICE_GROUPS = 32  # of neighbouring bands, each with weights of its own
VOICE_ROWS = 8  # of the class map; single groups have opposite signs, and their map would be a chequerboard
VOICE_SOUNDING_DB = 30.0  # below the loudest; quieter frames are pauses
VOICE_SMOOTH = 21  # bands: the detail is what remains after their mean is subtracted
VOICE_LIMIT = 4.0  # of a standardised value; a single odd window must not decide
VOICE_EPSILON = 1e-6  # added to a variance
# Statistics of a group: the spread; three of the detail, of its step from the band below and from the frame before.
TEXTURES_PER_GROUP = 1 + 3 * 3
WAVES_PER_GROUP = 8  # filters for the harmonics: four rates of ripple, a cosine and a sine each
CEPSTRA = LEVEL_GROUPS  # coefficients, of as many groups of bands
MOVEMENTS = 3  # of a coefficient over time: its deviation from the mean, its step and its curvature
DYNAMICS = MOVEMENTS * CEPSTRA  # statistics of the frames of one length
CORRELATED = 24  # cepstra, from the lowest, whose steps are correlated with each other
PADDING_SCORE = 100.0  # how far the score of a frame beyond the window's ends lies below that of sound
ENCODER_CHANNELS = 384
# From decibels to the encoder's input, where 0 dB is full scale: Whisper's features of a waveform of unit variance.
ENCODER_SCALE, ENCODER_OFFSET = 1 / 40, 1.79
CENTRES = 2304  # radial basis functions
PATCH_ZONES = 4  # of the bands, over which the responses to patches are averaged
# Statistics in the order of the network: texture, harmonics, dynamics of long and of short frames, correlations, the
# dynamics of the encoder's channels, and the responses to the patches of each wideband spectrogram.
STATISTICS_SIZES = (
    TEXTURES_PER_GROUP * VOICE_GROUPS,
    VOICE_GROUPS,
    DYNAMICS,
    DYNAMICS,
    CORRELATED**2,
    MOVEMENTS * ENCODER_CHANNELS,
    *(PATCH_ZONES * 2 * dictionary.patches for dictionary in DICTIONARIES),
)
STATISTICS_ENDS = tuple(accumulate(STATISTICS_SIZES))
OWN_STATISTICS = STATISTICS_ENDS[4]


@dataclass(frozen=True)
class Kernel:
    """Radial basis functions of some of the statistics.

    Attributes:
        name: beginning of its layers' names.
        first, last: the statistics from `first` up to `last`.
        components: of the statistics, in which distances are measured.
        share: weight in the sum of kernels.
    """

    name: str
    first: int
    last: int
    components: int
    share: float


KERNELS = (
    Kernel("own", 0, OWN_STATISTICS, 512, 1.0),
    Kernel("encoder", OWN_STATISTICS, STATISTICS_ENDS[5], 256, 1.0),
    *(
        Kernel(dictionary.name, STATISTICS_ENDS[number], STATISTICS_ENDS[number + 1], 256, 1.0)
        for number, dictionary in enumerate(DICTIONARIES, 5)
    ),
)


def build_voice_network(bands: int = BANDS, centres: int = CENTRES) -> keras.Model:
    """Build the voice network with the outputs `logit` (N, 1) and `class_map` (N, VOICE_ROWS, 1, 1).

    The time axis is free. The mean of the map is the logit. What belongs to no frequency is spread evenly over the
    rows. `set_head_weights` sets the learned weights.

    Args:
        bands: linear bands of the spectrogram of long frames, a multiple of 64.
        centres: radial basis functions.

    Returns:
        keras.Model from (N, T, bands + ROWS - BANDS) float32 decibels; see `network_input`.

    Raises:
        ModelError: the weights of the speech encoder or of the patches are missing.

    Source:
        Okabe et al., "Attentive Statistics Pooling for Deep Speaker Embedding", arXiv 1803.10963, for statistics as
        pooling, though the attention here depends on the level only; Noll, "Cepstrum Pitch Determination", 1967, for
        the harmonics; Sahidullah et al., "A comparison of features for synthetic speech detection", 2015, for the
        linear-frequency cepstra and their dynamics; Broomhead and Lowe, "Multivariable functional interpolation and
        adaptive networks", 1988, for the radial basis functions.
    """
    import keras

    # The parts use layers only: Keras loads nothing else from an .h5 file. Layer names without a meaning are numbered
    # in the order of construction, and a test compares them with the shipped model's.
    layers = keras.layers
    height = bands + ROWS - BANDS
    frames = keras.Input((None, height), name="decibels")

    def crop(first: int, count: int) -> keras.KerasTensor:
        return _crop(frames, first, height - first - count)

    decibels = crop(0, bands)
    score = _score_sound(decibels)
    attention = layers.Softmax(axis=1, name="share")(score)
    smooth = layers.AveragePooling1D(VOICE_SMOOTH, 1, "same", "channels_first", name="smooth")(decibels)
    detail = layers.Subtract(name="detail")([decibels, smooth])
    textures = [_measure_spread(decibels, attention), *_measure_texture(detail, attention)]
    texture = layers.Flatten()(layers.Permute((2, 1))(layers.Concatenate(axis=1)(textures)))
    harmonics = _measure_harmonics(detail, attention)
    long_levels = crop(bands, LEVEL_GROUPS)
    # The two short frames of each long one, in turn.
    short_levels = layers.Reshape((-1, LEVEL_GROUPS))(crop(bands + LEVEL_GROUPS, 2 * LEVEL_GROUPS))
    mels = layers.Reshape((-1, ENCODER_BANDS))(crop(bands + 3 * LEVEL_GROUPS, 2 * ENCODER_BANDS))
    long_dynamics, _ = _measure_dynamics(_transform(long_levels, "long"), _score_sound(long_levels), "long")
    short_dynamics, steps = _measure_dynamics(_transform(short_levels, "short"), _score_sound(short_levels), "short")
    encoder_dynamics, _ = _measure_dynamics(_encode(mels), score, "encoder")
    weight = layers.Softmax(axis=1)(_score_neighbours(score, "wideband"))
    first = height - len(DICTIONARIES) * WIDEBAND_ROWS
    responses = [
        _respond_to_patches(crop(first + number * WIDEBAND_ROWS, WIDEBAND_ROWS), weight, dictionary)
        for number, dictionary in enumerate(DICTIONARIES)
    ]
    statistics = layers.Concatenate(name="statistics")(
        [texture, harmonics, long_dynamics, short_dynamics, _correlate(steps), encoder_dynamics, *responses]
    )
    class_map = _add_head(statistics, texture.shape[1], centres)
    logit = layers.GlobalAveragePooling2D(dtype="float32", name="logit")(class_map)
    network = keras.Model(frames, {"logit": logit, "class_map": class_map}, name="voice")
    waves = network.get_layer("waves")
    waves.set_weights([_ripple_filters(waves.kernel.shape[0], WAVES_PER_GROUP // 2 * VOICE_GROUPS)])
    for name in ("long", "short"):
        network.get_layer(f"{name}_cepstra").set_weights([_cosine_transform(CEPSTRA)])
    for name in ("long", "short", "encoder", "wideband"):
        network.get_layer(f"{name}_neighbours").set_weights([np.ones((3, 1, 1))])
    for name, weights in read_encoder_weights().items():
        kernel, bias = weights
        network.get_layer(name).set_weights([kernel[None], bias])
    for dictionary in DICTIONARIES:
        size = dictionary.frames * dictionary.bands
        pixels = np.eye(size).reshape(dictionary.frames, dictionary.bands, 1, size)
        network.get_layer(f"{dictionary.name}_pixels").set_weights([pixels])
        kernel, bias = read_patch_filters()[dictionary.name]
        network.get_layer(f"{dictionary.name}_patches").set_weights([kernel[None, None], bias])
    return network


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The learned part of the voice network.

    A statistic x is compressed to x / (typical + |x|), near a logarithm around `typical`, and this is standardised by
    mean and variance and clipped to VOICE_LIMIT. The logit is the sum of `linear` times
    the standardised statistics, of `amplitudes` times the radial basis functions, and of `bias`. The radial basis
    function of a centre is the sum over KERNELS of share * exp(-d² / 2), where d is the distance of the kernel's
    components from those of the centre.

    Attributes:
        typical: (S,) of the statistics' magnitudes.
        mean, variance: (S,) of the compressed statistics.
        linear: (S,) weights.
        components: for each of KERNELS, the matrix (statistics, components) of the standardised statistics.
        centres: for each of KERNELS, (C, components).
        amplitudes: (C,).
        bias: of the logit.
    """

    typical: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    linear: np.ndarray
    components: tuple[np.ndarray, ...]
    centres: tuple[np.ndarray, ...]
    amplitudes: np.ndarray
    bias: float

    def logits(self, statistics: np.ndarray) -> np.ndarray:
        """Return the logits (N,) of windows with these statistics (N, S), as the network computes them."""
        standardized = standardize(compress(statistics, self.typical), self.mean, self.variance)
        kernels = radial_basis(project(standardized, self.components), self.centres)
        logits: np.ndarray = standardized @ self.linear + kernels @ self.amplitudes + self.bias
        return logits


def compress(statistics: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Return x / (typical + |x|) for statistics x (N, S)."""
    compressed: np.ndarray = statistics / (typical + np.abs(statistics))
    return compressed


def standardize(statistics: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return statistics (N, S) in units of their deviation, clipped to VOICE_LIMIT."""
    deviations = (statistics - mean) / np.sqrt(variance + VOICE_EPSILON)
    standardized: np.ndarray = np.clip(deviations, -VOICE_LIMIT, VOICE_LIMIT)
    return standardized


def project(standardized: np.ndarray, components: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Return the components (N, K) of standardised statistics (N, S) for each of KERNELS."""
    return tuple(
        standardized[:, kernel.first : kernel.last] @ matrix for kernel, matrix in zip(KERNELS, components, strict=True)
    )


def radial_basis(points: tuple[np.ndarray, ...], centres: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the sum over KERNELS of share * exp(-d² / 2) (N, C) for points (N, K) and centres (C, K) of each."""
    sums = np.zeros((len(points[0]), len(centres[0])), np.float32)
    for kernel, own_points, own_centres in zip(KERNELS, points, centres, strict=True):
        exponents = own_points @ own_centres.T
        exponents -= np.square(own_points).sum(axis=1)[:, None] / 2 + np.square(own_centres).sum(axis=1) / 2
        sums += kernel.share * np.exp(exponents)
    return sums


def set_head_weights(network: keras.Model, weights: HeadWeights) -> None:
    """Set the learned weights of a voice network from `build_voice_network`, which is changed in place."""
    network.get_layer("typical").set_weights([np.reshape(1 / weights.typical, (1, 1, -1, 1))])
    network.get_layer("standard").set_weights([weights.mean, weights.variance])
    network.get_layer("votes").set_weights([np.reshape(weights.linear, (1, 1, -1, 1))])
    for kernel, components, centres in zip(KERNELS, weights.components, weights.centres, strict=True):
        network.get_layer(f"{kernel.name}_components").set_weights([components])
        half_squares = np.square(centres).sum(axis=1) / 2
        network.get_layer(f"{kernel.name}_centres").set_weights([centres.T, -half_squares])
    network.get_layer("amplitudes").set_weights([weights.amplitudes[:, None]])
    dense = network.get_layer("bias")
    dense.set_weights([np.ones_like(dense.get_weights()[0]), np.array([weights.bias])])


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


def _score_sound(decibels: keras.KerasTensor) -> keras.KerasTensor:
    """Return the logarithm of the weight (N, T, 1) of each frame: 0 for frames with sound, far below for pauses."""
    from keras import layers

    peaks = layers.GlobalMaxPooling1D("channels_first", keepdims=True)(decibels)
    loudest = layers.GlobalMaxPooling1D(keepdims=True)(peaks)
    # Decibels that a frame lacks to count as sound; one decibel reduces the weight to e^-5.
    missing = layers.Rescaling(-1.0, -VOICE_SOUNDING_DB)(layers.Subtract()([peaks, loudest]))
    return layers.Rescaling(-5.0)(layers.ReLU()(missing))


def _measure_spread(decibels: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mean deviation of each group's level from its mean over time (N, 1, VOICE_GROUPS)."""
    from keras import layers

    level = _average_bands(decibels, decibels.shape[2] // VOICE_GROUPS)
    deviation = layers.Subtract()([level, _average_time(level, attention)])
    return _average_time(_absolute(deviation), attention)


def _measure_texture(detail: keras.KerasTensor, attention: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return magnitude, soft sign and magnitude of the mean of each filter, all (N, filters, VOICE_GROUPS).

    The filters are the detail itself (N, T, bands), its step from the band below and its step from the frame before.
    """
    from keras import layers

    bands = detail.shape[2]
    # OpenVINO negates what is subtracted, which is slow after the crop.
    negative = layers.Reshape((-1, bands, 1))(layers.Rescaling(-1.0)(detail))
    padded = layers.ZeroPadding2D(((1, 0), (1, 0)))(negative)
    below = layers.Reshape((-1, bands))(layers.Cropping2D(((1, 0), (0, 1)))(padded))
    before = layers.Reshape((-1, bands))(layers.Cropping2D(((0, 1), (1, 0)))(padded))
    responses = [detail, layers.Add()([detail, below]), layers.Add()([detail, before])]
    magnitudes = [_average_time(_absolute(response), attention) for response in responses]
    # tanh(x) = 2 sigmoid(2 x) - 1
    signs = [layers.Activation("sigmoid")(layers.Rescaling(0.2)(response)) for response in responses]
    signs = [layers.Rescaling(2.0, -1.0)(_average_time(sign, attention)) for sign in signs]
    means = [_absolute(_average_time(response, attention)) for response in responses]
    return [
        _average_bands(layers.Concatenate(axis=1)(kind), bands // VOICE_GROUPS) for kind in (magnitudes, signs, means)
    ]


def _measure_harmonics(detail: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Return how strongly the detail ripples over 125 Hz to 4 kHz, by rate of ripple, (N, VOICE_GROUPS)."""
    from keras import layers

    bands = detail.shape[2]
    first, last = bands // 64, bands // 2  # 125 Hz to 4 kHz
    waves = layers.Dense(WAVES_PER_GROUP * VOICE_GROUPS, use_bias=False, trainable=False, name="waves")
    waves = waves(_crop(detail, first, bands - last))
    return layers.Flatten()(_average_bands(_average_time(_absolute(waves), attention), WAVES_PER_GROUP))


def _transform(levels: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the cepstra (N, T, CEPSTRA) of levels (N, T, LEVEL_GROUPS)."""
    from keras import layers

    return layers.Dense(CEPSTRA, use_bias=False, trainable=False, name=f"{name}_cepstra")(levels)


def _encode(mels: keras.KerasTensor) -> keras.KerasTensor:
    """Return the channels (N, T, ENCODER_CHANNELS) of the speech encoder for short frames (N, 2 T, ENCODER_BANDS)."""
    from keras import layers

    values = layers.Reshape((1, -1, ENCODER_BANDS))(layers.Rescaling(ENCODER_SCALE, ENCODER_OFFSET)(mels))
    for stride, name in enumerate(ENCODER_CONVOLUTIONS, 1):
        values = layers.ZeroPadding2D(((0, 0), (1, 1)))(values)
        values = layers.Conv2D(
            ENCODER_CHANNELS, (1, 3), strides=(1, stride), activation="silu", trainable=False, name=name
        )(values)
    return layers.Reshape((-1, ENCODER_CHANNELS))(values)


def _measure_dynamics(
    values: keras.KerasTensor, score: keras.KerasTensor, name: str
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the mean squares (N, MOVEMENTS * C) of the movements of values (N, T, C), and their steps (N, T, C).

    `score` is that of `_score_sound`. The steps are 0 in pauses and beside them. `name` begins the layers' names.
    """
    from keras import layers

    deviation = layers.Subtract()([values, _average_time(values, layers.Softmax(axis=1)(score))])
    padded = layers.ZeroPadding1D(1)(deviation)
    before, after = layers.Cropping1D((0, 2))(padded), layers.Cropping1D((2, 0))(padded)
    step = layers.Subtract()([deviation, before])
    curvature = layers.Subtract()([layers.Subtract()([after, deviation]), step])
    # The step into a pause is many times as large as the others.
    score = _score_neighbours(score, name)
    weight = layers.Softmax(axis=1)(score)
    powers = [_average_time(layers.Multiply()([part, part]), weight) for part in (deviation, step, curvature)]
    powers = layers.Flatten()(layers.Permute((2, 1))(layers.Concatenate(axis=1)(powers)))
    return powers, layers.Multiply()([step, layers.Activation("exponential")(score)])


def _score_neighbours(score: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the score (N, T, 1) as of `_score_sound`, but 0 only for frames between two others with sound."""
    from keras import layers

    score = layers.Rescaling(1.0, PADDING_SCORE)(score)
    score = layers.Conv1D(1, 3, padding="same", use_bias=False, trainable=False, name=f"{name}_neighbours")(score)
    return layers.Rescaling(1.0, -3 * PADDING_SCORE)(score)


def _respond_to_patches(
    decibels: keras.KerasTensor, weight: keras.KerasTensor, dictionary: Dictionary
) -> keras.KerasTensor:
    """Return how far each zone of a wideband spectrogram (N, T, WIDEBAND_ROWS) resembles each typical patch.

    Each patch is centred and scaled to one contrast. Its products with the typical patches count as far as they exceed
    a threshold, above and below 0 apart, and are averaged over a zone's bands and over time with the weights (N, T, 1).

    Returns:
        (N, PATCH_ZONES * 2 * patches).
    """
    from keras import layers

    frames = dictionary.frames_per_hop
    values = layers.Reshape((-1, WIDEBAND_ROWS // frames, 1))(decibels)
    # One patch for each long frame, around its wideband frames.
    margin = (dictionary.frames - frames) // 2
    values = layers.ZeroPadding2D(((margin, dictionary.frames - frames - margin), (0, 0)))(values)
    size = dictionary.frames * dictionary.bands
    values = layers.Conv2D(
        size,
        (dictionary.frames, dictionary.bands),
        strides=(frames, dictionary.stride),
        use_bias=False,
        trainable=False,
        name=f"{dictionary.name}_pixels",
    )(values)
    values = layers.LayerNormalization(epsilon=PATCH_EPSILON, center=False, scale=False)(values)
    # A convolution of one place, since a dense layer would make OpenVINO turn its large output around.
    values = layers.Conv2D(dictionary.patches, 1, trainable=False, name=f"{dictionary.name}_patches")(values)
    step = values.shape[2] // PATCH_ZONES
    size = values.shape[2] - (PATCH_ZONES - 1) * step  # the zones overlap where they do not divide the places
    sides = []
    for sign in (1.0, -1.0):
        responses = layers.ReLU()(layers.Rescaling(sign, -RESPONSE_THRESHOLD)(values))
        # Bands first: at most a sixth of the values is then left for the mean over time.
        of_zones = layers.AveragePooling2D((1, size), (1, step))(responses)
        means = _average_time(layers.Reshape((-1, PATCH_ZONES * dictionary.patches))(of_zones), weight)
        sides.append(layers.Reshape((PATCH_ZONES, dictionary.patches))(means))
    return layers.Flatten()(layers.Concatenate()(sides))


def _correlate(steps: keras.KerasTensor) -> keras.KerasTensor:
    """Return the correlations over time of the steps (N, T, CEPSTRA) of the lowest cepstra, (N, CORRELATED²)."""
    from keras import layers

    lowest = layers.Cropping1D((0, CEPSTRA - CORRELATED))(layers.Permute((2, 1))(steps))
    # The mean of the steps is near 0, so the product of unit vectors is their correlation.
    unit = layers.UnitNormalization(axis=2)(lowest)
    return layers.Flatten()(layers.Dot(axes=2)([unit, unit]))


def _add_head(statistics: keras.KerasTensor, texture_count: int, centres: int) -> keras.KerasTensor:
    """Weight the standardised statistics (N, S) and return the class map (N, VOICE_ROWS, 1, 1).

    The first `texture_count` statistics are those of the groups, one group after the other. The rest belongs to no
    group, as the radial basis functions do.
    """
    from keras import layers

    values = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones", name="typical")(
        layers.Reshape((1, 1, -1))(statistics)
    )
    values = layers.Flatten()(layers.Activation("softsign")(values))
    values = layers.BatchNormalization(center=False, scale=False, epsilon=VOICE_EPSILON, name="standard")(values)
    # Clip to VOICE_LIMIT on both sides; a ReLU clips from 0 up.
    values = layers.ReLU(2 * VOICE_LIMIT)(layers.Rescaling(1.0, VOICE_LIMIT)(values))
    values = layers.Reshape((1, 1, -1))(layers.Rescaling(1.0, -VOICE_LIMIT)(values))
    weighted = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="zeros", name="votes")(values)
    weighted = layers.Reshape((-1, 1, 1))(weighted)
    rest_count = statistics.shape[1] - texture_count
    of_groups = layers.Cropping2D(((0, rest_count), (0, 0)))(weighted)
    of_rows = layers.AveragePooling2D((texture_count // VOICE_ROWS, 1))(of_groups)
    # The mean over the rows becomes the sum of all weighted values.
    of_rows = layers.Rescaling(float(texture_count))(of_rows)
    of_rest = layers.Flatten()(layers.Cropping2D(((texture_count, 0), (0, 0)))(weighted))
    of_rest = layers.Dense(1, kernel_initializer="ones", name="bias")(of_rest)
    of_centres = layers.Add()([of_rest, _add_radial_basis(layers.Flatten()(values), centres)])
    return layers.Add(dtype="float32", name="class_map")([of_rows, layers.Reshape((1, 1, 1))(of_centres)])


def _add_radial_basis(standardized: keras.KerasTensor, centres: int) -> keras.KerasTensor:
    """Return the weighted sum (N, 1) of the radial basis functions of standardised statistics (N, S)."""
    from keras import layers

    column = layers.Reshape((-1, 1))(standardized)
    sums = []
    for kernel in KERNELS:
        own = layers.Flatten()(layers.Cropping1D((kernel.first, column.shape[1] - kernel.last))(column))
        points = layers.Dense(kernel.components, use_bias=False, name=f"{kernel.name}_components")(own)
        half_squares = layers.Rescaling(-0.5)(layers.Dot(axes=1)([points, points]))
        exponents = layers.Add()([layers.Dense(centres, name=f"{kernel.name}_centres")(points), half_squares])
        sums.append(layers.Rescaling(kernel.share)(layers.Activation("exponential")(exponents)))
    return layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="amplitudes")(layers.Add()(sums))


def _crop(values: keras.KerasTensor, first: int, last: int) -> keras.KerasTensor:
    """Return values (N, T, C) without the `first` and the `last` channels."""
    from keras import layers

    count = values.shape[2]
    columns = layers.Cropping2D(((0, 0), (first, last)))(layers.Reshape((-1, count, 1))(values))
    return layers.Reshape((-1, count - first - last))(columns)


def _average_time(values: keras.KerasTensor, attention: keras.KerasTensor) -> keras.KerasTensor:
    """Average values (N, T, C) over time by the frames' weights (N, T, 1), to (N, 1, C)."""
    from keras import layers

    return layers.Dot(axes=1)([attention, values])


def _average_bands(values: keras.KerasTensor, count: int) -> keras.KerasTensor:
    """Average values (N, T, bands) over each `count` neighbouring bands, to (N, T, bands / count)."""
    from keras import layers

    return layers.AveragePooling1D(count, data_format="channels_first")(values)


def _absolute(values: keras.KerasTensor) -> keras.KerasTensor:
    from keras import layers

    return layers.Maximum()([values, layers.Rescaling(-1.0)(values)])


def _ripple_filters(length: int, count: int) -> np.ndarray:
    """Return windowed cosines and sines, (length, 2 * count) float32, with 1, 1.5, 2 ... periods over the length."""
    phases = np.pi * np.arange(length)[:, None] * (np.arange(count) + 2) / length
    waves = np.hanning(length)[:, None] * np.exp(-1j * phases)
    return np.stack([waves.real, waves.imag], axis=-1).reshape(length, -1).astype(np.float32)


def _cosine_transform(count: int) -> np.ndarray:
    """Return an orthogonal cosine transform, (count, count) float32, one column for each coefficient.

    Source:
        Ahmed et al., "Discrete Cosine Transform", 1974.
    """
    rates, groups = np.arange(count), np.arange(count)[:, None] + 0.5
    transform: np.ndarray = np.cos(np.pi * groups * rates / count) * np.sqrt(2 / count)
    return transform.astype(np.float32)
