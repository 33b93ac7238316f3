import numpy as np
import pytest

from detector.voices.detect import VOICE_MODEL_FILES
from detector.voices.features import BANDS, SAMPLE_RATE_HZ
from training.voice_networks import (
    VOICE_GROUPS,
    VOICE_ROWS,
    _ripple_filters,
    build_voice_network,
    describe_layers,
    set_linear_weights,
)

FLAT = np.full((1, BANDS, 12, 1), -50, np.float32)


@pytest.fixture(scope="module")
def network():
    network = build_voice_network(BANDS)
    rng, size = np.random.default_rng(0), network.get_layer("statistics").output.shape[1]
    set_linear_weights(network, rng.normal(5, 9, size), rng.uniform(0.01, 9, size), rng.normal(0, 0.1, size), 0.7)
    return network


@pytest.fixture(scope="module")
def statistics_of(network):
    import keras

    inner = keras.Model(network.input, network.get_layer("statistics").output)
    return lambda spectrograms: np.asarray(inner(spectrograms, training=False))


def noise(frames=12, count=2):
    return np.random.default_rng(1).normal(-50, 6, (count, BANDS, frames, 1)).astype(np.float32)


def test_the_shipped_model_has_the_layers_of_a_new_network(network):
    import keras

    shipped = keras.models.load_model(VOICE_MODEL_FILES["keras"], compile=False)
    assert describe_layers(shipped) == describe_layers(network)
    assert [weights.shape for weights in shipped.get_weights()] == [weights.shape for weights in network.get_weights()]
    copy = build_voice_network(BANDS)
    copy.set_weights(shipped.get_weights())
    for name in ("logit", "class_map"):
        expected, found = (np.asarray(model(noise(), training=False)[name]) for model in (shipped, copy))
        np.testing.assert_array_equal(found, expected)
        assert np.ptp(found) > 0
    for name in ("filters", "waves"):
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
    np.testing.assert_allclose(statistics_of(spectrograms + 7), expected, atol=1e-3)
    # The loudest band of each frame decides whether the frame has sound.
    pause = np.full((2, BANDS, 6, 1), -130, np.float32)
    paused = statistics_of(np.concatenate([spectrograms, pause], axis=2))
    mixed = statistics_of(np.concatenate([spectrograms, pause + 80], axis=2))
    assert np.abs(paused - expected).max() < 0.5 * np.abs(mixed - expected).max()


def test_a_ripple_over_the_bands_raises_the_harmonics_of_its_rate(statistics_of):
    hz = (np.arange(BANDS) + 1) * SAMPLE_RATE_HZ / 2 / BANDS
    harmonics = []
    for pitch_hz in (150, 300):
        ripple = 6 * np.cos(2 * np.pi * hz / pitch_hz)[:, None, None].astype(np.float32)
        values = statistics_of(FLAT + ripple)[0]
        harmonics.append(values[-VOICE_GROUPS:])
    low, high = (values.argmax() for values in harmonics)
    assert low > high > 0 and max(harmonics[0]) > 5 * np.median(harmonics[0])


def test_ripple_filters_come_in_pairs_of_one_rate():
    filters = _ripple_filters(248, 4)
    assert filters.shape == (248, 8) and filters.dtype == np.float32
    spectra = np.abs(np.fft.rfft(filters, 1984, axis=0))
    # A rate of 1, 1.5, 2 ... periods over the filter; the window blurs the slowest.
    np.testing.assert_allclose(spectra[:, 4:].argmax(axis=0) / 8, [2, 2, 2.5, 2.5], atol=0.2)


@pytest.mark.slow
def test_the_description_of_the_layers_has_no_names_of_the_session_and_shows_every_setting(network, monkeypatch):
    assert describe_layers(build_voice_network(BANDS)) == describe_layers(network)
    for name, value in [("VOICE_SMOOTH", 23), ("VOICE_SOUNDING_DB", 31.0), ("VOICE_EPSILON", 1e-5)]:
        with monkeypatch.context() as patch:
            patch.setattr(f"training.voice_networks.{name}", value)
            assert describe_layers(build_voice_network(BANDS)) != describe_layers(network)


def test_the_description_of_the_layers_shows_how_they_are_connected():
    import keras

    def build(subtract_first):
        one, other = keras.Input((3,)), keras.Input((3,))
        pair = [one, other] if subtract_first else [other, one]
        return keras.Model([one, other], keras.layers.Subtract()(pair))

    assert describe_layers(build(True)) == describe_layers(build(True)) != describe_layers(build(False))
