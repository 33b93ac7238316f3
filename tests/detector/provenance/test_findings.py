import io
import struct

import numpy as np
import pytest
from certificates import root_certificate, sign
from PIL import Image, PngImagePlugin

from detector.media.images import read_image
from detector.provenance.findings import MEANINGS, FindingKind, read_provenance
from detector.record import to_values
from detector.results import UnreadableMedia

K = FindingKind
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:iptc="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:mm="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:dcterms="http://purl.org/dc/terms/" {}/></rdf:RDF></x:xmpmeta>"""
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def picture(kind="JPEG", *, xmp="", exif=None, more=None, place=None, size=(64, 48), **options):
    tags = Image.Exif()
    tags.update(exif or {})
    tags.get_ifd(0x8769).update(more or {})
    tags.get_ifd(0x8825).update(place or {})
    if exif or more or place:
        options["exif"] = tags
    if xmp:
        options["xmp"] = XMP.format(xmp).encode()
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def with_text(name, text):
    notes = PngImagePlugin.PngInfo()
    notes.add_text(name, text)
    return picture("PNG", pnginfo=notes)


def found(data, **options):
    """Return the facts by their kind."""
    return {finding.kind: finding.fact for finding in read_provenance(data, **options).findings}


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_states_what_it_can_mean_and_what_it_cannot(kind):
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in MEANINGS[kind])


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (picture("PNG"), K.NO_METADATA, "no metadata"),
        (picture(exif={271: "Canon", 272: "EOS 80D"}), K.CAMERA, "“Canon EOS 80D”"),
        (picture(exif={305: "GIMP 2.10"}), K.SOFTWARE, "“GIMP 2.10”"),
        (picture(xmp='xmp:CreatorTool="Adobe Photoshop 25.1"'), K.SOFTWARE, "“Adobe Photoshop 25.1”"),
        (picture(more={36867: "2024:05:01 10:00:00"}), K.TAKEN, "2024:05:01"),
        (picture(exif={306: "2024:05:02 10:00:00"}, more={36867: "2024:05:01 10:00:00"}), K.EDITED, "2024:05:02"),
        (picture(place={2: (48.0, 12.0, 3.0)}), K.LOCATION, "where it was taken"),
        (picture(more={40962: 6000, 40963: 4000}), K.RESIZED, "6000 × 4000 pixels, but the picture has 64 × 48"),
        (with_text("parameters", "a face\nSteps: 20, Sampler: Euler a"), K.GENERATOR, "named “parameters”"),
        (with_text("prompt", '{"3": {"class_type": "KSampler"}}'), K.GENERATOR, "ComfyUI"),
        (picture(exif={305: "Midjourney v6"}), K.GENERATOR, "“Midjourney v6”"),
        (with_text("Software", "NovelAI"), K.GENERATOR, "“NovelAI”"),
        (with_text("Software", "gnome-screenshot"), K.SOFTWARE, "“gnome-screenshot”"),
        (with_text("Comment", "hello"), K.TEXT, "“Comment”"),
        (picture(xmp='photoshop:Credit="Made with Google AI"'), K.GENERATOR, "Google AI"),
        (picture(xmp='iptc:AIPromptInformation="a face"'), K.GENERATOR, "prompt"),
        (picture(xmp=f'iptc:DigitalSourceType="{SOURCES}trainedAlgorithmicMedia"'), K.SYNTHETIC_SOURCE, "XMP declares"),
        (picture(xmp=f'iptc:DigitalSourceType="{SOURCES}digitalCapture"'), K.CAPTURED_SOURCE, "digitalCapture"),
        (picture(xmp='dcterms:provenance="https://u:p@example.org:80/m"'), K.CREDENTIALS_ELSEWHERE, "(example.org)"),
        (picture(xmp='dcterms:provenance="https://[1"'), K.CREDENTIALS_ELSEWHERE, "(at no host)"),
        (picture(quality=83), K.JPEG_TABLES, "quality 83 with the standard tables"),
        (picture(progressive=True), K.PROGRESSIVE, "progressive"),
        (picture("GIF"), K.NOT_READ, "image/gif"),
        (picture(more={40962: 64, 40963: 48}), K.TECHNICAL, "technical notes"),
        (picture(xmp="<"), K.DAMAGED, "The XMP in the file cannot be read"),
    ],
)
def test_a_finding(data, kind, word):
    facts = found(data)
    assert word in facts[kind] and facts[kind].endswith(".")
    assert (K.NO_METADATA in facts) == (kind in (K.NO_METADATA, K.JPEG_TABLES, K.PROGRESSIVE))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (picture(exif={306: "2024:05:01 10:00:30"}, more={36867: "2024:05:01 10:00:00"}), K.EDITED),
        (picture(exif={306: "yesterday"}, more={36867: "2024:05:01 10:00:00"}), K.EDITED),
        (picture(more={40962: 48, 40963: 64}), K.RESIZED),  # turned
        (picture(exif={305: "Imagenomic Portraiture"}), K.GENERATOR),
        (picture(exif={305: "Midjourney v6"}), K.SOFTWARE),
        (with_text("Software", "gnome-screenshot"), K.TEXT),
        (picture("PNG"), K.JPEG_TABLES),
    ],
)
def test_not_a_finding(data, kind):
    assert kind not in found(data)


def test_integrity_and_trust_are_reported_separately():
    data, _ = sign(picture("PNG"), "image/png", source_type="trainedAlgorithmicMedia")
    facts = found(data)
    assert "intact" in facts[K.CREDENTIALS_INTACT] and "There is no list" in facts[K.SIGNER_UNKNOWN]
    assert "“Test Maker, Camera of the Tests”" in facts[K.SIGNER_UNKNOWN]
    assert "made with Generator of the Tests 1.0; steps: c2pa.created" in facts[K.SIGNED_CLAIMS]
    assert "intact Content Credentials" in facts[K.SYNTHETIC_SOURCE] and K.NO_METADATA not in facts
    assert "not on the list" in found(data, trust_anchors=root_certificate("stranger"))[K.SIGNER_UNKNOWN]

    broken = bytearray(data)
    broken[data.index(b"IDAT") + 100] ^= 1
    facts = found(bytes(broken), trust_anchors=root_certificate())
    assert "assertion.dataHash.mismatch" in facts[K.CREDENTIALS_BROKEN] and K.SIGNER_TRUSTED in facts
    assert "broken Content Credentials" in facts[K.SYNTHETIC_SOURCE]


def test_damaged_credentials_are_reported_as_damage():
    data, _ = sign(picture(), "image/jpeg")
    facts = found(data[: data.index(b"jumdc2pa") + 300])
    assert "C2PA" in facts[K.DAMAGED] and K.CREDENTIALS_INTACT not in facts


def jpeg_with_preview(image, preview):
    buffer = io.BytesIO()
    preview.resize((160, 120)).save(buffer, "JPEG")
    small = buffer.getvalue()
    entries = struct.pack("<HHHII", 2, 0x0201, 4, 1, 44) + struct.pack("<HHII", 0x0202, 4, 1, len(small))
    block = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + entries + struct.pack("<I", 0) + small
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=block)
    return buffer.getvalue()


def test_a_preview_of_another_picture_is_reported(astronaut):
    crop = astronaut.crop((150, 0, 350, 200))
    for image, is_own in ((astronaut, True), (crop, False)):
        data = jpeg_with_preview(image, astronaut)
        facts = found(data, image=read_image(data))
        assert (K.OTHER_PREVIEW in facts) is not is_own
        assert is_own or "correlation 0." in facts[K.OTHER_PREVIEW]
        assert K.OTHER_PREVIEW not in found(data)


def test_values_are_plain_and_never_contain_the_place():
    place = {1: "N", 2: (48.0, 12.0, 34.5678), 3: "E", 4: (16.0, 22.0, 12.3456)}
    data = picture(exif={271: "Canon"}, place=place)
    values = to_values(read_provenance(data))
    assert values["has_location"] and not any(number in repr(values) for number in ("34.5", "12.3456"))
    assert values["sha256"] and values["size_bytes"] == len(data) and values["media_type"] == "image/jpeg"
    assert values["jpeg"]["quality"] == 75 and values["findings"][0]["kind"] == "camera"
    assert set(values["findings"][0]) == {"kind", "fact", "can_mean", "cannot_mean"}


def test_other_files_are_refused():
    with pytest.raises(UnreadableMedia, match="PDF"):
        read_provenance(b"%PDF-1.7 hello")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_random_damage_does_not_raise(kind):
    data, _ = sign(picture(kind), f"image/{kind.lower()}")
    image = np.zeros((48, 64, 3), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for place in rng.integers(16, len(data), rng.choice([1, 5, 30])):
            broken[place] = rng.integers(256)
        read_provenance(bytes(broken[: rng.integers(32, len(data) * 2)]), image=image)


def test_metadata_do_not_change_the_score(astronaut, real_detector):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "a deepfake\nSteps: 20, Sampler: Euler a")
    files = []
    for options in ({}, {"pnginfo": notes}):
        buffer = io.BytesIO()
        astronaut.save(buffer, "PNG", **options)
        files.append(buffer.getvalue())
    assert real_detector.detect(files[0]).logit == real_detector.detect(files[1]).logit
