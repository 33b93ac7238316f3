import ast

import pytest
from project import ROOT

from detector.media import kinds
from detector.media.images import read_image
from detector.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, MEDIA, VIDEO_SUFFIXES, Medium, sniff
from detector.results import Detection, UnreadableMedia

UNSUPPORTED = [
    (b"", "empty"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    (b"<svg width='9'/>", "SVG"),
    (b"\n<!DOCTYPE html><html><body>hello</body></html>", "HTML"),
    (b"\xef\xbb\xbf<html>", "HTML"),
    (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    (b"PK\x03\x04" + bytes(26) + b"picture.jpg", "ZIP"),
    (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "Office"),
    (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(64), "Office"),
    (b"FLV\x01\5", "FLV video"),
    (b"\0\0\x01\xba\x44", "MPEG-1 or MPEG-2 video"),
    (b"OggS" + bytes(24) + b"\x80theora", "Ogg video"),
    (b"\xff\xf1\x50\x80", "AAC audio"),
    (b"FORM\0\0\0\x24AIFFCOMM", "AIFF audio"),
    (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "plain text"),
    (b"ffconcat version 1.0\nfile /etc/hostname\n", "plain text"),
    (b"The wide river and the WAVE upon it", "plain text"),
    (b"ID3 is a kind of tag", "plain text"),
    (b"Just a letter to somebody.\n" * 9, "plain text"),
    ("Grüße aus Köln, 你好".encode(), "plain text"),
    ("Windows text".encode("utf-16"), "plain text"),
    (b"BMW is no bitmap, and this is no bitmap either", "plain text"),
    (bytes(range(256)), "unknown"),
    (bytes(64), "unknown"),
]


@pytest.mark.parametrize(("data", "seen"), UNSUPPORTED, ids=[f"{seen} {data[:9]}" for data, seen in UNSUPPORTED])
def test_type_of_an_unsupported_file_is_named(data, seen, tmp_path):
    path = tmp_path / "disguised.jpg"
    path.write_bytes(data)
    for call in (lambda: sniff(data), lambda: read_image(data), lambda: read_image(path)):
        with pytest.raises(UnreadableMedia, match=seen):
            call()


RECORDINGS = [
    (b"\0\0\0\x18ftypisom\0\0\0\0", "video/mp4"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "video/mp4"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0", "video/quicktime"),
    (b"\0\0\0\x08wide\x01\0\0\0mdat", "video/quicktime"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm", "video/webm"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x88matroska", "video/x-matroska"),
    (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
    (b"fLaC\0\0\0\x22", "audio/flac"),
    (b"ID3\x04\0\0\0\0\0\0", "audio/mpeg"),
    (b"\xff\xfb\x90\x64", "audio/mpeg"),
    (b"OggS" + bytes(24) + b"OpusHead", "audio/ogg"),
    (b"\0\0\0\x18ftypM4A \0\0\0\0", "audio/mp4"),
]


@pytest.mark.parametrize(("data", "media"), RECORDINGS, ids=[media for _, media in RECORDINGS])
def test_videos_and_sound_are_identified_and_not_read_as_pictures(data, media):
    assert sniff(data) == media
    item = "video" if media.startswith("video") else "recording"
    with pytest.raises(UnreadableMedia, match=rf"a {item} \({media}\), not a picture"):
        read_image(data)


@pytest.mark.parametrize(
    ("brands", "media"),
    [
        (b"heic....mif1heic", "image/heic"),
        (b"heix....", "image/heic"),
        (b"mif1....mif1heic", "image/heic"),
        (b"mif1....avifmiaf", "image/avif"),
        (b"msf1....", "image/heic"),
        (b"avis....msf1avis", "image/avif"),
        (b"isom....avif", "video/mp4"),
        (b"crx ....heic", None),
    ],
)
def test_pictures_in_a_container_of_videos_are_identified_by_their_brands(brands, media):
    data = (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + b"\0\0\0\x08avif"  # the last is another box
    if media is None:
        with pytest.raises(UnreadableMedia, match="raw camera"):
            sniff(data)
    else:
        assert sniff(data) == media


def test_suffixes_are_lower_case_with_a_dot_and_belong_to_one_medium():
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    assert {".mp4", ".mov", ".webm", ".mkv", ".avi"} <= VIDEO_SUFFIXES
    assert {".wav", ".flac", ".mp3", ".ogg", ".m4a"} <= AUDIO_SUFFIXES
    suffixes = [suffix for medium in MEDIA.values() for suffix in medium.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


def test_each_media_type_belongs_to_its_medium():
    identified = {seen for *_, seen in kinds._SIGNATURES if "/" in seen}
    identified |= set(filter(None, kinds._HEIF_BRANDS.values()))
    identified |= {*kinds._RIFF_TYPES.values(), "image/bmp", "video/quicktime", "video/webm", "video/x-matroska"}
    assert identified == {media_type for medium in MEDIA.values() for media_type in medium.media_types}
    for media, medium in MEDIA.items():
        assert {media_type.partition("/")[0] for media_type in medium.media_types} == {media}
        assert all(f".{suffix}" in medium.suffixes for suffix in medium.media_types.values())


def test_each_result_belongs_to_a_medium():
    assert {result.media for result in Detection.__subclasses__()} == set(MEDIA)


def test_a_fourth_medium_is_named_in_the_messages(monkeypatch):
    drawing = Medium(
        media_types={"model/obj": "obj"},
        suffixes=frozenset({".obj"}),
        formats="OBJ models",
        noun="Model",
        item="model",
        class_names={"real": "scans", "fake": "renderings"},
        cohort_phrase="",
        metrics_file="metrics.json",
        has_duration=False,
        search_advice="Search for the original.",
    )
    monkeypatch.setitem(MEDIA, "model", drawing)
    with pytest.raises(UnreadableMedia, match="M4A sound, or OBJ models"):
        sniff(b"plain text")


# Beside its entry in `MEDIA`, a fourth medium needs a function that detects it, a page template and the names of its
# error rates in its metrics file; the API's model card says what those count.
TABLES_BY_MEDIUM = {
    "detector/media/kinds.py",
    "detector/pipeline.py",
    "webapp/api/model_cards.py",
    "webapp/media_pages.py",
    "webapp/performance.py",
}


def test_no_other_module_keeps_a_table_by_medium():
    found = set()
    for path in [*ROOT.glob("detector/**/*.py"), *ROOT.glob("webapp/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                if len(keys & set(MEDIA)) > 1:
                    found.add(str(path.relative_to(ROOT)))
    assert found <= TABLES_BY_MEDIUM
