import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from detector.provenance import metadata
from detector.provenance.metadata import MAX_TEXTS, read_metadata
from detector.text import MAX_TEXT_CHARACTERS

KINDS = ("jpeg", "png", "webp", "tiff")
PACKET = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:iptc="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:mm="http://ns.adobe.com/xap/1.0/mm/" xmp:CreatorTool="A Tool" e:GPSLatitude="48,12.345N">
<tiff:Model>A  Model</tiff:Model>
<iptc:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</iptc:DigitalSourceType>
<mm:History><rdf:Seq><rdf:li/><rdf:li/></rdf:Seq></mm:History>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
EXIF = {271: "Canon", 272: "EOS 80D", 305: "GIMP 2.10", 306: "2024:05:02 09:00:00", 270: "A description"}


def exif_block():
    exif = Image.Exif()
    exif.update(EXIF)
    exif.get_ifd(0x8769).update({36867: "2024:05:01 10:00:00", 40962: 6000, 40963: 4000})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 34.5678), 3: "E", 4: (16.0, 22.0, 12.3456)})
    return exif.tobytes()


def png_chunk(kind, content):
    return struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks, is_last=False):
    """Return a PNG with chunks before its pixels, or after them."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), "grey").save(buffer, "PNG")
    data, place = buffer.getvalue(), -12 if is_last else 33
    return data[:place] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[place:]


def with_notes(kind, exif, xmp):
    if kind == "png":
        return png((b"eXIf", exif.removeprefix(b"Exif\0\0")), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    buffer = io.BytesIO()
    notes = {"tiffinfo": {700: xmp}} if kind == "tiff" else {"exif": exif, "xmp": xmp}
    Image.new("RGB", (40, 40), "grey").save(buffer, kind, **notes)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_is_read_and_the_place_is_not_shown(kind):
    seen = read_metadata(with_notes(kind, exif_block(), b""), f"image/{kind}")
    assert seen.exif == {
        **{"Make": "Canon", "Model": "EOS 80D", "Software": "GIMP 2.10", "DateTime": "2024:05:02 09:00:00"},
        **{"DateTimeOriginal": "2024:05:01 10:00:00", "ExifImageWidth": "6000", "ExifImageHeight": "4000"},
    }
    assert [(text.name, text.text) for text in seen.texts] == [("ImageDescription", "A description")]
    assert seen.has_location and seen.damaged == ()
    assert not any(number in repr(seen) for number in ("48", "34.5", "16.", "12.3"))


@pytest.mark.parametrize("kind", KINDS)
def test_xmp_is_read_and_the_place_is_not_shown(kind):
    seen = read_metadata(with_notes(kind, exif_block(), PACKET.encode()), f"image/{kind}")
    assert seen.xmp.pop("DigitalSourceType").endswith("/trainedAlgorithmicMedia")
    assert seen.xmp == {"CreatorTool": "A Tool", "Model": "A Model", "History": "2"}
    assert seen.has_location and "12.345N" not in repr(seen)


def test_a_tiff_file_is_its_own_exif():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "TIFF", tiffinfo={271: "Canon", 305: "GIMP"})
    assert read_metadata(buffer.getvalue(), "image/tiff").exif == {"Make": "Canon", "Software": "GIMP"}


@pytest.mark.parametrize("media_type", ["image/gif", "image/bmp", "video/mp4"])
def test_other_kinds_are_not_read(media_type):
    assert read_metadata(b"GIF89a", media_type) is None


PROMPT = "a portrait, 85mm\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}})


@pytest.mark.parametrize(
    ("name", "text", "generator"),
    [
        ("parameters", PROMPT, "a Stable Diffusion program"),
        ("prompt", GRAPH, "ComfyUI"),
        ("workflow", '{"nodes": []}', "ComfyUI"),
        ("invokeai_metadata", "{}", "InvokeAI"),
        ("Description", "a cat --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef", "Midjourney"),
        ("prompt", "What is this?", None),
        ("Comment", "10 Steps: 2, to the left", None),
        ("parameters", "exposure 1/60", None),
    ],
)
@pytest.mark.parametrize("is_packed", [True, False])
def test_texts_of_generators_are_identified(is_packed, name, text, generator):
    notes = PngImagePlugin.PngInfo()
    notes.add_text(name, text, zip=is_packed)
    notes.add_itxt(name, text, zip=is_packed)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "PNG", pnginfo=notes)
    for seen in read_metadata(buffer.getvalue(), "image/png").texts:
        assert (seen.name, seen.generator, seen.text) == (name, generator, " ".join(text.split()))


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_a_prompt_in_the_user_comment_is_read(encoding):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PROMPT.encode(encoding)
    (seen,) = read_metadata(with_notes("jpeg", exif.tobytes(), b""), "image/jpeg").texts
    assert seen.name == "UserComment" and seen.generator and seen.text.startswith("a portrait, 85mm Negative")


def test_a_graph_in_the_camera_tags_is_not_a_camera():
    exif = Image.Exif()
    exif.update({271: "workflow:{}", 272: f"prompt:{GRAPH}"})
    seen = read_metadata(with_notes("webp", exif.tobytes(), b""), "image/webp")
    assert seen.exif == {} and [text.generator for text in seen.texts] == ["ComfyUI", "ComfyUI"]


def test_texts_after_the_pixels_are_read():
    seen = read_metadata(png((b"tEXt", b"Software\0made here"), is_last=True), "image/png")
    assert [(text.name, text.text) for text in seen.texts] == [("Software", "made here")]


def test_texts_are_cut_and_lose_their_control_characters():
    long = "x" * 10 * MAX_TEXT_CHARACTERS
    odd = "a\x00b\x1b[31mc\u202ed\u200be\r\nf".encode()
    seen = read_metadata(png((b"tEXt", b"long\0" + long.encode()), (b"iTXt", b"odd\0\0\0\0\0" + odd)), "image/png")
    assert seen.texts[0].text.startswith("xxx") and len(seen.texts[0].text) < MAX_TEXT_CHARACTERS + 50
    assert seen.texts[0].text.endswith("(20,000 characters in all)")
    assert seen.texts[1].text == "ab[31mcde f"


def test_a_decompression_bomb_in_a_text_is_cut(monkeypatch):
    unpacked, factory = [], zlib.decompressobj

    class Counting:
        def __init__(self):
            self._real = factory()

        def decompress(self, *arguments):
            unpacked.append(self._real.decompress(*arguments))
            return unpacked[-1]

    monkeypatch.setattr(metadata.zlib, "decompressobj", Counting)
    bomb = (b"zTXt", b"bomb\0\0" + zlib.compress(b"A" * 5_000_000))
    seen = read_metadata(png(*[bomb] * (MAX_TEXTS + 20)), "image/png")
    assert len(seen.texts) == MAX_TEXTS == len(unpacked)
    assert {len(text) for text in unpacked} == {metadata.MAX_TEXT_BYTES}


def test_the_first_of_many_comments_are_kept():
    comments = b"".join(b"\xff\xfe\0\4%02d" % number for number in range(MAX_TEXTS + 20))
    data = with_notes("jpeg", exif_block(), b"")
    texts = read_metadata(data[:2] + comments + data[2:], "image/jpeg").texts
    assert [text.text for text in texts] == [f"{number:02}" for number in range(MAX_TEXTS)]


BOMB = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>"""


@pytest.mark.parametrize(
    "packet",
    [BOMB, OUTSIDE, "<!DOCTYPE x><x/>", "<x", "\0", "<x>" * 100_000, "<x/>" + "x" * metadata.MAX_XMP_BYTES],
    ids=["entities", "outside", "type", "cut", "nothing", "deep", "long"],
)
def test_hostile_xmp_is_reported_as_damage(packet):
    description = (b"tEXt", b"Description\0hello")
    seen = read_metadata(png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet.encode()), description), "image/png")
    assert seen.xmp == {} and seen.texts[0].text == "hello"
    assert seen.damaged == (() if packet == "\0" else ("XMP",))


def test_damaged_exif_does_not_affect_the_other_parts():
    data = with_notes("jpeg", b"Exif\0\0II*\0\xff\xff\xff\xff", PACKET.encode())
    seen = read_metadata(data, "image/jpeg")
    assert seen.exif == {} and seen.xmp["CreatorTool"] == "A Tool"


def test_a_list_of_numbers_is_not_read_as_text():
    entry = struct.pack("<HHII", 0x9286, 4, 1000, 26)
    block = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0) + bytes(4000)
    assert read_metadata(with_notes("jpeg", b"Exif\0\0" + block, b""), "image/jpeg").texts == ()


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_does_not_raise(kind):
    data = with_notes(kind, exif_block(), PACKET.encode())
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(8, len(data), rng.choice([1, 5, 30])):
            broken[place] = rng.integers(256)
        read_metadata(bytes(broken[: rng.integers(8, len(data) * 2)]), f"image/{kind}")


def test_the_preview_is_read():
    entries = struct.pack("<HHHII", 2, 0x0201, 4, 1, 44) + struct.pack("<HHII", 0x0202, 4, 1, 7)
    block = b"II*\0" + struct.pack("<IHI", 8, 0, 14) + entries + struct.pack("<I", 0) + b"preview and more"
    assert read_metadata(with_notes("jpeg", b"Exif\0\0" + block, b""), "image/jpeg").preview == b"preview"
