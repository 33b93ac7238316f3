import numpy as np
import pytest

import detector
from webapp import page_files


@pytest.mark.parametrize(
    "name",
    [
        page_files.PICTURE,
        page_files.THUMBNAIL,
        page_files.CROP,
        page_files.LIME,
        page_files.SPECTROGRAM,
        page_files.SPECTROGRAM_HEATMAP,
        page_files.heatmap_name(0),
        page_files.heatmap_name(63),
        page_files.frame_name(3, 12345),
        page_files.frame_heatmap_name(0, 0),
        page_files.explanation_name("class_map"),
        page_files.explanation_name("lime"),
    ],
)
def test_every_drawn_file_is_served(name):
    assert page_files.is_served(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../picture.jpg",
        "picture.jpg.part",
        "picture.jpg\n",
        "picture_jpg",
        page_files.LIME_VALUES,
        "heatmap-00.png",
        "heatmap--1.png",
        "heatmap-١.png",
        f"heatmap-{'9' * 3000}.png",
        "frame-0.jpg",
        "secret.png",
    ],
)
def test_nothing_else_is_served(name):
    assert not page_files.is_served(name)


def test_a_fast_png_has_the_same_pixels(portrait):
    pixels = portrait[:64, :64]
    assert np.array_equal(detector.media.read_image(page_files.encode_png(pixels)), pixels)


def test_a_wide_thumbnail_keeps_its_shape(picture_detector):
    detection = picture_detector.detect(np.full((300, 1000, 3), 90, np.uint8))
    thumbnail = detector.media.read_image(page_files.draw_page_files(detection)[page_files.THUMBNAIL])
    assert thumbnail.shape == (72, 240, 3)
