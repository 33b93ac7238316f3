import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence

from detector.media.images import MAX_PIXELS, MIN_SIDE_PX, encode_jpeg, encode_png, read_image
from detector.media.kinds import sniff
from detector.results import MediaTooLarge, UnreadableMedia

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def gradient(height=48, width=64):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 99 / width], axis=-1).astype(np.uint8)


def quarters(mode="RGB"):
    """Return a 64 x 48 picture: red and green above blue and white."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32], pixels[24:, 32:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels).convert(mode)


def corners(pixels):
    return [tuple(int(v) for v in pixels[y, x]) for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8))]


def saved(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_zeros(width, height):
    """Return a 1-bit grey PNG; the file has about a thousandth of the bytes of its pixels."""
    row = b"\0" * (1 + (width + 7) // 8)
    deflate = zlib.compressobj(9)
    packed = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


GOOD = {
    "jpeg": (saved(quarters(), "JPEG", quality=95, subsampling=0), "image/jpeg"),
    "progressive jpeg": (saved(quarters(), "JPEG", quality=95, subsampling=0, progressive=True), "image/jpeg"),
    "png": (saved(quarters(), "PNG"), "image/png"),
    "webp": (saved(quarters(), "WEBP", lossless=True), "image/webp"),
    "gif": (saved(quarters(), "GIF"), "image/gif"),
    "bmp": (saved(quarters(), "BMP"), "image/bmp"),
    "tiff": (saved(quarters(), "TIFF"), "image/tiff"),
    "lzw tiff": (saved(quarters(), "TIFF", compression="tiff_lzw"), "image/tiff"),
    "big tiff": (saved(quarters(), "TIFF", big_tiff=True), "image/tiff"),
    "two pictures in one jpeg": (
        saved(quarters(), "MPO", save_all=True, append_images=[quarters()], quality=95, subsampling=0),
        "image/jpeg",
    ),
}


@pytest.mark.parametrize(("data", "media"), GOOD.values(), ids=GOOD)
def test_each_type_is_identified_and_read(data, media, tmp_path):
    assert sniff(data) == media
    path = tmp_path / "picture.txt"  # a misleading suffix
    path.write_bytes(data)
    for source in (data, path, str(path)):
        pixels = read_image(source)
        assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
        np.testing.assert_allclose(corners(pixels), [RED, GREEN, BLUE, WHITE], atol=6)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", [kind for kind in GOOD if not kind.startswith("two")])
def test_truncated_picture_is_refused(kind, cut):
    data = GOOD[kind][0]
    part = data[: int(len(data) * cut)]
    with pytest.raises(UnreadableMedia, match=f"{len(part):,} bytes"):
        read_image(part)


def test_picture_without_its_last_bytes_is_refused():
    data = saved(Image.fromarray(gradient(200, 300)), "JPEG")
    with pytest.raises(UnreadableMedia, match="JPEG .* cut off"):
        read_image(data[:-40])


def png_with(change):
    data = bytearray(saved(Image.fromarray(gradient()), "PNG"))
    change(data, data.index(b"IDAT"))
    return bytes(data)


def make_longer(data, at):
    data[at - 4 : at] = struct.pack(">I", struct.unpack(">I", data[at - 4 : at])[0] + 7)


def make_shorter(data, at):
    data[at - 4 : at] = struct.pack(">I", struct.unpack(">I", data[at - 4 : at])[0] - 7)


def make_huge(data, at):
    data[at - 4 : at] = b"\xff\xff\xff\xff"


def flip_a_pixel(data, at):
    data[at + 60] ^= 0x55


def name_no_chunk(data, at):
    data[8:16] = bytes(8)


@pytest.mark.parametrize("change", [make_longer, make_shorter, make_huge, flip_a_pixel, name_no_chunk])
def test_inconsistent_png_is_refused(change):
    with pytest.raises(UnreadableMedia, match="PNG"):
        read_image(png_with(change))


def test_header_without_pixels_is_refused():
    for data in (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0\x08\0\0\0"):
        with pytest.raises(UnreadableMedia, match=f"{len(data)} bytes"):
            read_image(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, MIN_SIDE_PX - 1)])
def test_picture_too_small_for_a_face_is_refused(size):
    with pytest.raises(UnreadableMedia, match=f"{size[0]} x {size[1]} pixels"):
        read_image(saved(Image.new("RGB", size), "PNG"))
    assert read_image(saved(Image.new("RGB", (MIN_SIDE_PX, MIN_SIDE_PX)), "PNG")).shape == (MIN_SIDE_PX, MIN_SIDE_PX, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height", "seen"),
    [
        (12_000, 10_000, "120,000,000 in all; at most 50,000,000"),
        (8_000, 6_251, "8,000 x 6,251"),
        (40_000, 40, "at most 32,000"),
        (30_000, 30_000, "far more than 50,000,000"),
    ],
)
def test_decompression_bomb_is_refused(width, height, seen, tmp_path):
    data = png_of_zeros(width, height)
    assert len(data) < width * height / 500 + 1000
    with pytest.raises(MediaTooLarge, match=seen):
        read_image(data)


MEMORY_PROBE = """
import resource, sys
from detector.media.images import read_image
from detector.results import MediaTooLarge
peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak_kb()
try:
    read_image(sys.argv[1])
except MediaTooLarge:
    print((peak_kb() - before) * 1024)
"""


def animation_that_grows():
    pages = [Image.new("L", (64, 48)), Image.new("L", (8_000, 8_000))]
    return saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")


@pytest.mark.slow
def test_decompression_bomb_is_not_decoded(tmp_path):
    webp = bytearray(saved(quarters("RGBA"), "WEBP", lossless=True))
    at = webp.index(b"VP8L") + 9
    webp[at : at + 4] = (0x10000000 | (16_000 - 1) << 14 | (16_000 - 1)).to_bytes(4, "little")
    for number, bomb in enumerate((png_of_zeros(12_000, 10_000), bytes(webp))):
        path = tmp_path / str(number)
        path.write_bytes(bomb)
        probe = subprocess.run([sys.executable, "-c", MEMORY_PROBE, path], capture_output=True, text=True, check=True)
        assert int(probe.stdout) < 20_000_000


def test_later_pages_are_never_decoded():
    assert read_image(animation_that_grows()).shape == (48, 64, 3)


def test_file_over_the_size_limit_is_refused(tmp_path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(4 * MAX_PIXELS + 1)
    with pytest.raises(MediaTooLarge, match="200,000,001 bytes"):
        read_image(path)


def test_jpeg_with_too_many_scans_is_refused():
    data = saved(Image.fromarray(gradient()), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    with pytest.raises(MediaTooLarge, match="has 209 scans; at most 100"):
        read_image(data[:start] + data[start:-2] * 200 + data[-2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_data_after_the_end_of_a_jpeg_are_ignored(progressive):
    """Phones append a video to a picture, and a video may contain any marker."""
    data = saved(Image.fromarray(gradient()), "JPEG", progressive=progressive)
    assert read_image(data + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\2" * 500).shape == (48, 64, 3)


def ramp16():
    return np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))


def rgb16_png():
    wide = np.zeros((48, 64, 3), ">u2")
    wide[...] = (0xFFFF, 0x8000, 0x0010)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(ramp16()), "PNG"),
        saved(Image.fromarray(ramp16()), "TIFF"),
        saved(Image.frombytes("I;16B", (64, 48), ramp16().astype(">u2").tobytes()), "TIFF"),
        saved(Image.fromarray(ramp16().astype(np.int32)), "TIFF"),
        saved(Image.fromarray(ramp16().astype(np.float32)), "TIFF"),
        saved(Image.fromarray((ramp16() / 65535).astype(np.float32)), "TIFF"),
        saved(Image.fromarray((ramp16() / 257).astype(np.float32)), "TIFF"),
        saved(Image.fromarray((ramp16() // 257).astype(np.int32)), "TIFF"),
    ],
    ids=["16-bit png", "16-bit tiff", "16-bit tiff big endian", "int", "float", "unit float", "byte float", "byte int"],
)
def test_grey_of_more_than_8_bits_is_scaled_to_8(data):
    expected = np.repeat((ramp16() / 257)[..., None], 3, axis=-1)
    np.testing.assert_allclose(read_image(data), expected, atol=1.01)


def test_16_bit_colour_is_scaled_to_8():
    assert corners(read_image(rgb16_png()))[0] == (255, 128, 0)


def test_nan_and_infinity_in_a_float_picture_are_ignored():
    values = np.full((48, 64), 0.5, np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert corners(read_image(saved(Image.fromarray(values), "TIFF")))[3] == (128, 128, 128)


def half_transparent(mode, **options):
    """Return a dark picture whose left half is transparent."""
    picture = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 48))
    return picture.convert(mode)


def palette_with_hole():
    picture = Image.new("P", (64, 48), 1)
    picture.putpalette([9, 9, 9, 0, 0, 0])
    picture.paste(0, (0, 0, 32, 48))
    return picture


@pytest.mark.parametrize(
    "data",
    [
        saved(half_transparent("RGBA"), "PNG"),
        saved(half_transparent("RGBA"), "WEBP", lossless=True),
        saved(half_transparent("RGBA"), "TIFF"),
        saved(half_transparent("LA"), "PNG"),
        saved(palette_with_hole(), "PNG", transparency=0),
        saved(palette_with_hole(), "PNG", transparency=b"\0\xff"),
        saved(palette_with_hole(), "GIF", transparency=0),
        saved(palette_with_hole().convert("RGB"), "PNG", transparency=(9, 9, 9)),
        saved(palette_with_hole().convert("L"), "PNG", transparency=9),
    ],
    ids=["rgba png", "rgba webp", "rgba tiff", "la", "p", "p with alphas", "gif", "rgb with colour key", "l with key"],
)
def test_transparent_parts_are_composited_over_white(data):
    assert corners(read_image(data)) == [WHITE, BLACK, WHITE, BLACK]


def test_half_transparent_black_is_grey():
    data = saved(Image.new("RGBA", (64, 48), (0, 0, 0, 128)), "PNG")
    assert corners(read_image(data))[0] == (127, 127, 127)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(quarters("CMYK"), "JPEG", quality=95), [RED, GREEN, BLUE, WHITE]),
        (saved(quarters("CMYK"), "TIFF"), [RED, GREEN, BLUE, WHITE]),
        (saved(quarters("YCbCr"), "TIFF", compression="jpeg", quality=95), [RED, GREEN, BLUE, WHITE]),
        (saved(quarters("P"), "PNG"), [RED, GREEN, BLUE, WHITE]),
        (saved(quarters("P"), "BMP"), [RED, GREEN, BLUE, WHITE]),
        (saved(quarters("L"), "JPEG"), [(76,) * 3, (149,) * 3, (29,) * 3, WHITE]),
        (saved(quarters("L"), "PNG"), [(76,) * 3, (149,) * 3, (29,) * 3, WHITE]),
        (saved(quarters("L").point(lambda v: 255 * (v > 100), "1"), "PNG"), [BLACK, WHITE, BLACK, WHITE]),
        (saved(quarters("L").point(lambda v: 255 * (v > 100), "1"), "TIFF", compression="group4"), [BLACK, WHITE] * 2),
    ],
    ids=["cmyk jpeg", "cmyk tiff", "ycbcr", "palette", "palette bmp", "grey jpeg", "grey png", "1-bit", "fax"],
)
def test_each_colour_mode_becomes_rgb(data, expected):
    np.testing.assert_allclose(corners(read_image(data)), expected, atol=4)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation_is_read(format):
    options = {"lossless": True} if format == "WEBP" else {}
    frames = [Image.new("RGB", (64, 48), colour) for colour in (BLUE, RED, GREEN)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 3
    assert set(corners(read_image(data))) == {BLUE}


def exif(orientation):
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


STORED = {  # how the camera stored red green / blue white, by EXIF orientation
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [GREEN, WHITE, RED, BLUE],
    7: [WHITE, GREEN, BLUE, RED],
    8: [BLUE, RED, WHITE, GREEN],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation, format):
    size = (64, 48) if orientation < 5 else (48, 64)
    sensor = Image.new("RGB", (2, 2))
    sensor.putdata(STORED[orientation])
    sensor = sensor.resize(size, Image.Resampling.NEAREST)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    pixels = read_image(saved(sensor, format, exif=exif(orientation), **options))
    assert pixels.shape == (48, 64, 3)
    np.testing.assert_allclose(corners(pixels), [RED, GREEN, BLUE, WHITE], atol=6)


@pytest.mark.parametrize("notes", [b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_stop_reading(notes, format):
    assert read_image(saved(quarters(), format, exif=notes)).shape == (48, 64, 3)


def test_orientation_is_applied_even_if_exif_cannot_be_rewritten():
    width_as_text = struct.pack("<HHII", 0x0100, 2, 4, 0x41424344)
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 6)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + width_as_text + orientation + bytes(4)
    assert read_image(saved(quarters(), "JPEG", exif=block)).shape == (64, 48, 3)


def test_invalid_orientation_is_ignored():
    assert read_image(saved(quarters(), "JPEG", exif=exif(77))).shape == (48, 64, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_colour_profile_does_not_stop_reading(format):
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"no profile at all", whole[:200]):
        assert read_image(saved(quarters(), format, icc_profile=profile)).shape == (48, 64, 3)


def test_random_damage_gives_a_picture_or_a_readable_error():
    """About 2,000 damaged files give no other exception, no warning, and no other kind of array."""
    chance = random.Random(2)
    refused = 0
    for data, _ in GOOD.values():
        for _ in range(200):
            broken = bytearray(data[: chance.choice([len(data), chance.randrange(1, len(data))])])
            for _ in range(chance.choice([1, 2, 8])):
                broken[chance.randrange(min(len(broken), 300))] = chance.choice([0, 127, 255, chance.randrange(256)])
            try:
                pixels = read_image(bytes(broken))
            except (UnreadableMedia, MediaTooLarge) as error:
                assert str(error).endswith(".") and "object at 0x" not in str(error)
                refused += 1
            else:
                assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    assert 500 < refused < 1900


def test_threads_restore_the_warning_filters():
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [GOOD["tiff"][0][:-1] + b"\0", GOOD["png"][0]] * 40))
    assert warnings.filters == before


def test_jpeg_round_trip():
    picture = gradient(300, 400)
    small = read_image(encode_jpeg(picture, max_side_px=200))
    assert small.shape == (150, 200, 3)
    same = encode_jpeg(picture, max_side_px=1000)
    np.testing.assert_allclose(read_image(same), picture, atol=12)
    assert sniff(same) == "image/jpeg" and len(encode_jpeg(picture, quality=30)) < len(same)


def test_png_keeps_every_pixel():
    picture = gradient()
    np.testing.assert_array_equal(read_image(encode_png(picture)), picture)
    seen_through = np.dstack([picture, np.zeros((48, 64), np.uint8)])
    assert set(corners(read_image(encode_png(seen_through)))) == {WHITE}
