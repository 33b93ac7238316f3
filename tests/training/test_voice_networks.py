import math

import numpy as np
import pytest

from detector.voices.detect import VOICE_MODEL_FILES
from detector.voices.features import (
    BANDS,
    ENCODER_BANDS,
    FFT_HOP_LENGTH,
    LEVEL_GROUPS,
    ROWS,
    SAMPLE_RATE_HZ,
    WIDEBAND_HOPS,
    WIDEBAND_ROWS,
)
from training.sound_patches import DICTIONARIES, PATCH_EPSILON, RESPONSE_THRESHOLD, read_patch_filters
from training.speech_encoder import ENCODER_CONVOLUTIONS, GELU_SCALE, convert_encoder, read_encoder_weights
from training.voice_networks import (
    CENTRES,
    CEPSTRA,
    CORRELATED,
    ENCODER_CHANNELS,
    ENCODER_OFFSET,
    ENCODER_SCALE,
    KERNELS,
    OWN_STATISTICS,
    PATCH_ZONES,
    STATISTICS_SIZES,
    VOICE_GROUPS,
    VOICE_ROWS,
    VOICE_SMOOTH,
    HeadWeights,
    _cosine_transform,
    _ripple_filters,
    build_voice_network,
    describe_layers,
    set_head_weights,
)

ENDS = np.cumsum(STATISTICS_SIZES)
HARMONICS, LONG, SHORT, CORRELATIONS, ENCODER, *PATCHES = (slice(*ends) for ends in zip(ENDS, ENDS[1:], strict=False))
FIRST_MEL = BANDS + 3 * LEVEL_GROUPS
FIRST_WIDEBAND = FIRST_MEL + 2 * ENCODER_BANDS
FLAT = np.full((1, 12, ROWS), -50, np.float32)


@pytest.fixture(scope="module")
def network():
    network = build_voice_network()
    rng, size = np.random.default_rng(0), sum(STATISTICS_SIZES)
    weights = HeadWeights(
        typical=rng.uniform(0.1, 9, size),
        mean=rng.normal(0, 0.5, size),
        variance=rng.uniform(0.01, 0.2, size),
        linear=rng.normal(0, 0.1, size),
        components=tuple(rng.normal(0, 0.02, (k.last - k.first, k.components)) for k in KERNELS),
        centres=tuple(rng.normal(0, 0.02, (CENTRES, k.components)) for k in KERNELS),
        amplitudes=rng.normal(0, 1, CENTRES),
        bias=0.7,
    )
    set_head_weights(network, weights)
    return network


@pytest.fixture(scope="module")
def statistics_of(network):
    import keras

    inner = keras.Model(network.input, network.get_layer("statistics").output)
    return lambda spectrograms: np.asarray(inner(spectrograms, training=False))


def noise(frames=12, count=2):
    return np.random.default_rng(1).normal(-50, 6, (count, frames, ROWS)).astype(np.float32)


def test_the_shipped_model_has_the_layers_of_a_new_network(network):
    import keras

    shipped = keras.models.load_model(VOICE_MODEL_FILES["keras"], compile=False)
    assert describe_layers(shipped) == describe_layers(network)
    assert [weights.shape for weights in shipped.get_weights()] == [weights.shape for weights in network.get_weights()]
    copy = build_voice_network()
    copy.set_weights(shipped.get_weights())
    for name in ("logit", "class_map"):
        expected, found = (np.asarray(model(noise(), training=False)[name]) for model in (shipped, copy))
        np.testing.assert_array_equal(found, expected)
        assert np.ptp(found) > 0
    fixed = ["waves", "long_cepstra", "short_cepstra"]
    fixed += [f"{name}_neighbours" for name in ("long", "short", "encoder", "wideband")]
    fixed += [f"{dictionary.name}_{kind}" for dictionary in DICTIONARIES for kind in ("pixels", "patches")]
    for name in [*fixed, *ENCODER_CONVOLUTIONS]:
        for old, new in zip(shipped.get_layer(name).get_weights(), network.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)


def test_the_mean_of_the_class_map_is_the_logit_at_any_duration(network):
    for frames in (2, 12, 59):
        outputs = {key: np.asarray(values) for key, values in network(noise(frames), training=False).items()}
        assert outputs["class_map"].shape == (2, VOICE_ROWS, 1, 1)
        np.testing.assert_allclose(outputs["class_map"].mean((1, 2)), outputs["logit"], atol=1e-5)


def test_pauses_and_the_level_do_not_change_the_statistics(statistics_of):
    spectrograms = noise()
    expected = statistics_of(spectrograms)
    # The encoder's input has one level; `normalize_level` sees to that.
    np.testing.assert_allclose(
        statistics_of(spectrograms + 7)[:, :OWN_STATISTICS], expected[:, :OWN_STATISTICS], rtol=1e-4, atol=1e-3
    )
    # The loudest band of each frame decides whether the frame has sound.
    pause = np.full((2, 6, ROWS), -130, np.float32)
    paused = statistics_of(np.concatenate([spectrograms, pause], axis=1))
    mixed = statistics_of(np.concatenate([spectrograms, pause + 80], axis=1))
    assert np.abs(paused - expected).max() < 0.5 * np.abs(mixed - expected).max()


def test_the_texture_is_that_of_the_fine_structure_of_the_spectrogram(statistics_of):
    frames = noise(count=1)
    decibels = frames[0, :, :BANDS]
    ends = [(max(0, band - VOICE_SMOOTH // 2), band + VOICE_SMOOTH // 2 + 1) for band in range(BANDS)]
    detail = decibels - np.stack([decibels[:, first:last].mean(axis=1) for first, last in ends], axis=1)

    def average_groups(values):
        return values.reshape(*values.shape[:-1], VOICE_GROUPS, -1).mean(axis=-1)

    levels = average_groups(decibels)
    expected = [np.abs(levels - levels.mean(axis=0)).mean(axis=0)]
    responses = np.stack([detail, np.diff(detail, axis=1, prepend=0), np.diff(detail, axis=0, prepend=0)])
    for values in (np.abs(responses).mean(axis=1), np.tanh(0.1 * responses).mean(axis=1)):
        expected += list(average_groups(values))
    expected += list(average_groups(np.abs(responses.mean(axis=1))))
    found = statistics_of(frames)[0, : STATISTICS_SIZES[0]]
    np.testing.assert_allclose(found, np.stack(expected, axis=1).ravel(), rtol=1e-3, atol=1e-4)


def test_a_ripple_over_the_bands_raises_the_harmonics_of_its_rate(statistics_of):
    hz = (np.arange(BANDS) + 1) * SAMPLE_RATE_HZ / 2 / BANDS
    harmonics = []
    for pitch_hz in (150, 300):
        ripple = np.zeros(ROWS, np.float32)
        ripple[:BANDS] = 6 * np.cos(2 * np.pi * hz / pitch_hz)
        values = statistics_of(FLAT + ripple)[0]
        harmonics.append(values[HARMONICS])
    low, high = (values.argmax() for values in harmonics)
    assert low > high > 0 and max(harmonics[0]) > 5 * np.median(harmonics[0])


def test_ripple_filters_come_in_pairs_of_one_rate():
    filters = _ripple_filters(248, 4)
    assert filters.shape == (248, 8) and filters.dtype == np.float32
    spectra = np.abs(np.fft.rfft(filters, 1984, axis=0))
    # A rate of 1, 1.5, 2 ... periods over the filter; the window blurs the slowest.
    np.testing.assert_allclose(spectra[:, 4:].argmax(axis=0) / 8, [2, 2, 2.5, 2.5], atol=0.2)


def measure_dynamics(levels):
    """Return the dynamics of levels (LEVEL_GROUPS, T) in decibels, and the correlations of the cepstra's steps."""
    cepstra = _cosine_transform(CEPSTRA).T @ levels
    deviation = (cepstra - cepstra.mean(axis=1, keepdims=True))[:, 1:-1]  # frames with a neighbour on each side
    steps, curvature = np.diff(cepstra)[:, :-1], np.diff(cepstra, 2)
    dynamics = np.stack([np.square(values).mean(axis=1) for values in (deviation, steps, curvature)], axis=1).ravel()
    unit = steps[:CORRELATED] / np.linalg.norm(steps[:CORRELATED], axis=1, keepdims=True)
    return dynamics, (unit @ unit.T).ravel()


def test_the_dynamics_and_the_correlations_are_those_of_the_cepstra(statistics_of):
    rng = np.random.default_rng(0)
    long = rng.normal(-50, 6, (LEVEL_GROUPS, 12)).astype(np.float32)
    short = rng.normal(-50, 6, (LEVEL_GROUPS, 24)).astype(np.float32)  # two frames for each of 12 long ones
    flat = FLAT[0].T
    rows = np.concatenate([flat[:BANDS], long, short[:, 0::2], short[:, 1::2], flat[FIRST_MEL:]])
    found = statistics_of(rows.T[None])[0]
    dynamics, correlations = measure_dynamics(short)
    np.testing.assert_allclose(found[LONG], measure_dynamics(long)[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[SHORT], dynamics, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[CORRELATIONS], correlations, atol=1e-4)


def convolve(values, kernel, bias, stride):
    """Return the convolution of values (T, channels), padded by one frame on each side, through SiLU."""
    padded = np.pad(values, ((1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0)[::stride]
    sums = np.einsum("tcw,wco->to", windows, kernel) + bias
    return sums / (1 + np.exp(-sums))


def test_the_dynamics_of_the_encoder_are_those_of_its_channels(statistics_of):
    mels = np.random.default_rng(0).normal(-50, 6, (ENCODER_BANDS, 24)).astype(np.float32)
    flat = FLAT[0].T
    rows = np.concatenate([flat[:FIRST_MEL], mels[:, 0::2], mels[:, 1::2], flat[FIRST_WIDEBAND:]])
    values = mels.T * ENCODER_SCALE + ENCODER_OFFSET
    for stride, weights in enumerate(read_encoder_weights().values(), 1):
        values = convolve(values, *weights, stride)
    assert values.shape == (12, ENCODER_CHANNELS)
    deviation, steps, curvature = (
        (values - values.mean(axis=0))[1:-1],
        np.diff(values, axis=0)[:-1],
        np.diff(values, 2, axis=0),
    )
    expected = np.stack([np.square(part).mean(axis=0) for part in (deviation, steps, curvature)], axis=1).ravel()
    np.testing.assert_allclose(statistics_of(rows.T[None])[0, ENCODER], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("number", range(len(DICTIONARIES)))
def test_the_responses_to_patches_are_those_of_patches_of_one_contrast(statistics_of, number):
    dictionary = DICTIONARIES[number]
    per_long_frame = FFT_HOP_LENGTH * WIDEBAND_HOPS // dictionary.fft_length
    spectrogram = np.random.default_rng(number).normal(-50, 6, (12 * per_long_frame, WIDEBAND_ROWS // per_long_frame))
    rows = FLAT.copy()
    first = FIRST_WIDEBAND + number * WIDEBAND_ROWS
    rows[0, :, first : first + WIDEBAND_ROWS] = spectrogram.reshape(12, -1)
    kernel, bias = read_patch_filters()[dictionary.name]
    responses = []
    for long_frame in range(1, 11):  # the first and the last have a neighbour on one side only
        start = long_frame * per_long_frame - (dictionary.frames - per_long_frame) // 2
        of_bands = []
        for band in range(0, spectrogram.shape[1] - dictionary.bands + 1, dictionary.stride):
            patch = spectrogram[start : start + dictionary.frames, band : band + dictionary.bands].ravel()
            scaled = (patch - patch.mean()) / np.sqrt(patch.var() + PATCH_EPSILON)
            likeness = scaled @ kernel + bias
            sides = np.maximum(0, np.stack([likeness, -likeness]) - RESPONSE_THRESHOLD)
            of_bands.append(sides.ravel())
        responses.append(of_bands)
    of_bands = np.mean(responses, axis=0)
    step = len(of_bands) // PATCH_ZONES  # zones overlap where the bands cannot be divided evenly
    length = len(of_bands) - (PATCH_ZONES - 1) * step
    expected = [of_bands[zone * step : zone * step + length].mean(axis=0) for zone in range(PATCH_ZONES)]
    np.testing.assert_allclose(statistics_of(rows)[0, PATCHES[number]], np.ravel(expected), rtol=1e-3, atol=1e-4)


def test_the_converted_encoder_computes_nearly_what_the_quantised_one_does(tmp_path):
    from onnx import helper, numpy_helper, save

    rng = np.random.default_rng(0)
    tensors, originals = {}, {}
    for name, count in (("conv1", 4), ("conv2", 6)):
        quantised = rng.integers(-100, 100, (6, count, 3)).astype(np.int8)
        scale, bias = rng.uniform(0.001, 0.004, 6).astype(np.float32), rng.integers(-99, 99, 6).astype(np.int32)
        of_name = f"inner.encoder.{name}"
        tensors |= {f"{of_name}.weight_quantized": quantised, f"{of_name}.weight_scale": scale}
        tensors |= {f"{of_name}.bias_quantized": bias, f"{of_name}.bias_quantized_scale": scale}
        originals[name] = ((quantised * scale[:, None, None]).transpose(2, 1, 0), bias * scale)
    initializers = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    save(helper.make_model(helper.make_graph([], "encoder", [], [], initializers)), tmp_path / "encoder.onnx")
    convert_encoder(tmp_path / "encoder.onnx", tmp_path / "encoder.npz")
    expected = found = rng.normal(0, 1, (9, 4))
    converted = read_encoder_weights(tmp_path / "encoder.npz")
    for name, (kernel, bias) in originals.items():
        padded = np.pad(expected, ((1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0)
        sums = np.einsum("tcw,wco->to", windows, kernel) + bias
        expected = sums * (1 + np.vectorize(math.erf)(sums / np.sqrt(2))) / 2  # GELU
        found = convolve(found, *converted[name], 1)
    np.testing.assert_allclose(found / GELU_SCALE, expected, atol=0.04)


def test_the_cosine_transform_is_orthogonal():
    transform = _cosine_transform(4)
    np.testing.assert_allclose(transform.T @ np.ones(4), [np.sqrt(8), 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(transform.T @ transform, np.diag([2, 1, 1, 1]), atol=1e-6)


@pytest.mark.slow
def test_the_description_of_the_layers_has_no_names_of_the_session_and_shows_every_setting(network, monkeypatch):
    assert describe_layers(build_voice_network()) == describe_layers(network)
    for name, value in [("VOICE_SMOOTH", 23), ("VOICE_SOUNDING_DB", 31.0), ("VOICE_EPSILON", 1e-5)]:
        with monkeypatch.context() as patch:
            patch.setattr(f"training.voice_networks.{name}", value)
            assert describe_layers(build_voice_network()) != describe_layers(network)


def test_the_description_of_the_layers_shows_how_they_are_connected():
    import keras

    def build(subtract_first):
        one, other = keras.Input((3,)), keras.Input((3,))
        pair = [one, other] if subtract_first else [other, one]
        return keras.Model([one, other], keras.layers.Subtract()(pair))

    assert describe_layers(build(True)) == describe_layers(build(True)) != describe_layers(build(False))
