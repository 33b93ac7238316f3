import numpy as np
import pytest

from detector.models.calibration import Calibration
from detector.models.heatmaps import MAP_TEMPERATURE, NEUTRAL, activation_heatmap, colour_heatmap, resize_heatmap

CALIBRATION = Calibration(1.5, -0.75, 0.2, 0.8)  # neutral at a logit of 0.5


def test_heat_is_the_tempered_probability_of_a_place():
    class_map = np.array([[-80.0, 0.5], [0.5 + 0.5 * MAP_TEMPERATURE, 80.0]], np.float32)
    heat = activation_heatmap(class_map, CALIBRATION)
    assert heat.shape == (2, 2) and heat.dtype == np.float32
    np.testing.assert_allclose(heat, [[0, NEUTRAL], [CALIBRATION.probability(1.0), 1]], atol=1e-6)


def test_the_temperature_is_four():
    """Heat maps in databases and bundles are compared with new ones, so the scale has to stay."""
    heat = activation_heatmap(np.array([[-4.0, 0.0, 4.0, 8.0]], np.float32), Calibration(1.0, 0.0, 0.2, 0.8))
    np.testing.assert_allclose(heat, [[0.268941, 0.5, 0.731059, 0.880797]], atol=1e-5)


def test_the_scale_does_not_depend_on_the_rest_of_the_map():
    class_map = np.random.default_rng(0).normal(0, 2, (6, 6)).astype(np.float32)
    stronger = class_map.copy()
    stronger[0, 0] = 30
    heat, other = (activation_heatmap(values, CALIBRATION) for values in (class_map, stronger))
    np.testing.assert_array_equal(heat.ravel()[1:], other.ravel()[1:])
    faint = activation_heatmap(np.full((6, 6), 0.6, np.float32), CALIBRATION)
    assert 0.5 < faint.min() == faint.max() < 0.6  # not scaled to 1


@pytest.mark.parametrize("size_px", [1, 40, 256])
@pytest.mark.parametrize("heat", [0.0, 0.3, NEUTRAL])
def test_heat_up_to_neutral_is_transparent(heat, size_px):
    painted = colour_heatmap(np.full((6, 6), heat, np.float32), size_px)
    assert painted.shape == (size_px, size_px, 4) and painted.dtype == np.uint8
    assert np.all(painted[..., 3] == 0)


def test_more_heat_is_redder_and_more_opaque():
    levels = [colour_heatmap(np.full((6, 6), heat, np.float32), 8)[4, 4].astype(int) for heat in (0.55, 0.7, 0.85, 1)]
    reds_over_greens = [red - green for red, green, _, _ in levels]
    assert reds_over_greens == sorted(set(reds_over_greens))
    opacities = [alpha for *_, alpha in levels]
    assert opacities == sorted(set(opacities)) and opacities[0] > 0 and opacities[-1] < 255  # the face shines through


def test_colours_lie_where_the_heat_is():
    heat = np.zeros((6, 6), np.float32)
    heat[1, 4] = 1
    painted = colour_heatmap(heat, 60)
    y, x = np.argwhere(painted[..., 3] == painted[..., 3].max()).mean(0)
    assert (y, x) == pytest.approx((14.5, 44.5), abs=1)
    assert np.all(painted[30:, :30, 3] == 0)


@pytest.mark.parametrize("side_px", [3, 6, 24])
def test_a_resized_map_keeps_its_mean(side_px):
    heat = np.random.default_rng(0).random((6, 6), np.float32)
    resized = resize_heatmap(heat, side_px)
    assert resized.shape == (side_px, side_px) and resized.mean() == pytest.approx(heat.mean(), abs=0.03)
