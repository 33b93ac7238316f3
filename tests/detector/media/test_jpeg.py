import io

import numpy as np
import pytest
from PIL import Image

from detector.media.jpeg import MAX_SEGMENTS, jpeg_segments, read_jpeg_coding

MOZJPEG = [  # its base table; Pillow scales it by the requested quality
    *(16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91, 135),
    *(18, 27, 31, 40, 53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238),
    *(56, 53, 91, 106, 131, 169, 226, 255, 85, 75, 135, 156, 189, 238, 255, 255),
]


def jpeg(mode="RGB", **options):
    buffer = io.BytesIO()
    Image.effect_noise((48, 32), 60).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_quality_of_libjpeg_is_read(mode):
    for quality in range(1, 101):
        seen = read_jpeg_coding(jpeg(mode, quality=quality))
        assert (seen.family, seen.quality) == ("standard", quality)


def test_tables_are_row_by_row():
    data = jpeg(quality=75)
    with Image.open(io.BytesIO(data)) as image:
        assert read_jpeg_coding(data).tables == tuple(tuple(image.quantization[number]) for number in (0, 1))


def test_mozjpeg_tables_are_identified():
    seen = read_jpeg_coding(jpeg(qtables=[MOZJPEG, MOZJPEG]))
    assert (seen.family, seen.quality) == ("mozjpeg", 50)


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_other_tables_get_the_nearest_quality(quality):
    with Image.open(io.BytesIO(jpeg(quality=quality))) as image:
        tables = [list(image.quantization[number]) for number in (0, 1)]
    tables[0][5] += 1
    seen = read_jpeg_coding(jpeg(qtables=tables))
    assert seen.family == "own" and abs(seen.quality - quality) <= 1


@pytest.mark.parametrize("is_progressive", [True, False])
def test_size_and_progressive_flag(is_progressive):
    seen = read_jpeg_coding(jpeg(progressive=is_progressive))
    assert (seen.width_px, seen.height_px, seen.is_progressive) == (48, 32, is_progressive)


@pytest.mark.slow
def test_truncated_and_damaged_headers_do_not_raise():
    data = jpeg()
    rng = np.random.default_rng(0)
    head = data.index(b"\xff\xda")
    for end in range(head):
        read_jpeg_coding(data[:end])
    for _ in range(1000):
        broken = bytearray(data)
        for place in rng.integers(0, head, 3):
            broken[place] = rng.integers(256)
        read_jpeg_coding(bytes(broken))
    assert read_jpeg_coding(data[: data.index(b"\xff\xc0") + 5]) is None and read_jpeg_coding(b"") is None


def test_number_of_segments_is_limited():
    assert sum(1 for _ in jpeg_segments(b"\xff\xd8" + b"\xff\xe0\0\2" * (MAX_SEGMENTS + 5))) == MAX_SEGMENTS
    assert sum(1 for _ in jpeg_segments(b"\xff\xd8" + b"\xff\xe0\0\0" * (MAX_SEGMENTS + 5))) == MAX_SEGMENTS
