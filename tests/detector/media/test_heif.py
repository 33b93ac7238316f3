"""HEIC and AVIF pictures, made in the tests: pixels, notes, limits and broken files."""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from detector.media import images
from detector.media.images import read_image
from detector.media.kinds import IMAGE_SUFFIXES, sniff
from detector.provenance.findings import FindingKind, read_provenance
from detector.reports import verify_bundle
from detector.results import DetectorError, MediaTooLarge, UnreadableMedia

pillow_heif = pytest.importorskip("pillow_heif", reason="The tests of HEIC need the package pillow-heif to write it.")

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="A Tool"/></rdf:RDF></x:xmpmeta>"""


def quarters(mode="RGB"):
    """Return a 64 x 48 picture: red and green above blue and white."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    for place, colour in zip(((0, 0), (0, 1), (1, 0), (1, 1)), COLOURS.values(), strict=True):
        pixels[24 * place[0] : 24 * (place[0] + 1), 32 * place[1] : 32 * (place[1] + 1)] = colour
    return Image.fromarray(pixels).convert(mode)


def heic(picture, **notes):
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=-1, **notes)
    return buffer.getvalue()


def avif(picture, **notes):
    buffer = io.BytesIO()
    picture.save(buffer, "AVIF", quality=100, subsampling="4:4:4", **notes)
    return buffer.getvalue()


def exif(**more):
    """Return an EXIF block with a camera and a place, and further entries by number."""
    block = Image.Exif()
    block.update({271: "Apple", 272: "iPhone 15", **{int(name[1:]): value for name, value in more.items()}})
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 34.5), 3: "E", 4: (16.0, 22.0, 12.5)})
    return block.tobytes()


def corners(pixels):
    """Return the names of the colours in the four corners, row by row."""
    return [
        min(COLOURS, key=lambda name: np.abs(pixels[y, x].astype(int) - COLOURS[name]).max())
        for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8))
    ]


@pytest.fixture(params=[heic, avif], ids=["heic", "avif"])
def made(request):
    return request.param


def test_pixels_are_read_whatever_the_name(made, tmp_path):
    data = made(quarters())
    assert sniff(data) == f"image/{made.__name__}" and f".{made.__name__}" in IMAGE_SUFFIXES
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    for source in (data, path):
        pixels = read_image(source)
        assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 and corners(pixels) == list(COLOURS)


def test_a_picture_is_turned_upright_once(made):
    pixels = read_image(made(quarters(), exif=exif(_274=6)))  # 6: a quarter turn clockwise
    assert pixels.shape == (64, 48, 3) and corners(pixels) == ["blue", "red", "white", "green"]


def test_transparent_parts_are_white(made):
    picture = quarters("RGBA")
    picture.putalpha(Image.fromarray(np.repeat(np.repeat([[255, 0]], 48, 0), 32, 1).astype(np.uint8)))
    assert corners(read_image(made(picture))) == ["red", "white", "blue", "white"]


def test_its_notes_are_findings(made):
    found = read_provenance(made(quarters(), exif=exif(_274=1), xmp=XMP))
    assert found.exif["Make"] == "Apple" and found.xmp == {"CreatorTool": "A Tool"} and found.has_location
    kinds = {finding.kind for finding in found.findings}
    assert {FindingKind.CAMERA, FindingKind.LOCATION} <= kinds and FindingKind.DAMAGED not in kinds
    plain = {finding.kind for finding in read_provenance(made(quarters())).findings}
    assert FindingKind.NO_METADATA in plain and not {FindingKind.NOT_READ, FindingKind.DAMAGED} & plain


def test_a_huge_size_is_refused_before_it_is_decoded(made, monkeypatch):
    wide = quarters().resize((128, 64))  # HEIC codes whole blocks of 64
    claim = made(wide).replace(struct.pack(">II", 128, 64), struct.pack(">II", 9_000, 9_000))
    with pytest.raises((MediaTooLarge, UnreadableMedia)) as refused:  # AVIF's reader has a lower limit of its own
        read_image(claim)
    assert made is avif or "9,000 x 9,000 pixels" in str(refused.value)
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaTooLarge, match="64 x 48 pixels"):
        read_image(made(quarters()))


def test_broken_files_end_in_a_sentence(made):
    """Cut off anywhere, or with a few bytes replaced: a picture, or a refusal, and nothing else."""
    data, random_numbers, refused = made(quarters(), exif=exif()), random.Random(1), 0
    for number in range(150):
        broken = bytearray(data)
        if number % 3 == 0:
            broken = broken[: random_numbers.randrange(12, len(data))]
        else:
            for _ in range(random_numbers.randrange(1, 8)):
                broken[random_numbers.randrange(12, len(data))] = random_numbers.randrange(256)
        try:
            assert read_image(bytes(broken)).shape[2] == 3
        except DetectorError as error:
            refused += str(error).endswith(".")
        read_provenance(bytes(broken))
    assert refused > 50


def test_one_is_uploaded_scanned_and_checked_like_any_picture(made, client, astronaut, real_detector, tmp_path):
    data = made(astronaut)
    page = client.get(address := client.upload(data, "IMG_0001.HEIC").location).text
    assert "IMG_0001.HEIC: 1 face found" in page and f"image/{made.__name__}" in page
    assert verify_bundle(client.get(f"{address}/evidence.zip").data, real_detector).differences == ()
    assert f".{made.__name__}" in client.get("/").text  # offered by the browser's file chooser
