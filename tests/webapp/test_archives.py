"""ZIP archives, most of them hostile: what is refused, with which sentence, and that nothing is unpacked before."""

import io
import random
import struct
import time
import zipfile

import pytest
from batches import zip_of

from detector import DetectorError, MediaTooLarge, UnreadableMedia
from webapp.batches import archives
from webapp.batches.archives import Archive, UploadLimits

LIMITS = UploadLimits(n_files=10, size_bytes=50_000_000, ratio=100)


def opened(data, limits=LIMITS):
    return Archive(io.BytesIO(data), limits)


def unpack_all(data, limits=LIMITS):
    archive = opened(data, limits)
    found = []
    for member in archive.members:
        with archive.unpacked(member) as file:
            file.seek(0)
            found.append((member.filename, file.read()))
    return found


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_come_in_their_order_with_their_folders_and_doubles():
    files = [("b/2.jpg", b"two"), ("a.jpg", b"one"), ("a.jpg", b"again"), ("ä/ü.jpg", b"")]
    assert unpack_all(zip_of(files)) == files


def test_folders_and_files_of_file_managers_are_left_out():
    names = ["__MACOSX/._a.jpg", "x/.DS_Store", "x/Thumbs.db", "desktop.ini", "x/", "x/a.jpg"]
    assert [member.filename for member in opened(zip_of((name, b"x") for name in names)).members] == ["x/a.jpg"]


@pytest.mark.parametrize(
    ("files", "limits", "words"),
    [
        ([(f"{i}.jpg", b"x") for i in range(11)], LIMITS, "There are 11 files; at most 10 are accepted at once."),
        ([("a.bmp", bytes(3_000_000))] * 2, UploadLimits(10, 5_000_000, 1000), "6.0 MB in all; at most 5 MB"),
        ([("a.bmp", bytes(21_000_000))], LIMITS, "more than 100 times its size"),
    ],
    ids=["files", "bytes", "ratio"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bombs_are_refused_before_anything_is_unpacked(files, limits, words, monkeypatch):
    data = zip_of(files)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("It was unpacked."))
    with pytest.raises(MediaTooLarge, match=words):
        opened(data, limits)


def test_a_small_drawing_may_be_packed_as_tightly_as_it_can():
    assert unpack_all(zip_of([("a.bmp", bytes(5_000_000))])) == [("a.bmp", bytes(5_000_000))]


def test_a_file_never_unpacks_to_more_than_the_table_of_contents_says():
    """The table says 10 bytes for a file of a megabyte: the reader stops there and reports the wrong checksum."""
    data = bytearray(zip_of([("a.jpg", bytes(1_000_000))]))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    archive = opened(bytes(data))
    assert archive.size_bytes == 10
    with pytest.raises(UnreadableMedia, match="damaged"), archive.unpacked(archive.members[0]):
        pytest.fail("It was given.")


def test_a_table_of_contents_of_millions_is_not_read():
    entry = b"PK\x01\x02" + bytes(42)
    table = entry * 300_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(table), 0, 0)
    begin = time.process_time()
    with pytest.raises(MediaTooLarge, match="too many files"):
        opened(b"PK\x03\x04" + table + end)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("flag", [0x1, 0x41])
def test_an_encrypted_file_needs_a_password(flag):
    data = bytearray(zip_of([("a.jpg", b"secret")]))
    data[data.index(b"PK\x01\x02") + 8] |= flag
    with pytest.raises(UnreadableMedia, match="needs a password"):
        unpack_all(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_methods_are_refused(method):
    with pytest.raises(UnreadableMedia, match="unusual method"):
        unpack_all(zip_of([("a.jpg", b"x" * 99)], method))


def test_an_archive_in_an_archive_is_refused():
    with pytest.raises(UnreadableMedia, match="an archive inside an archive"):
        unpack_all(zip_of([("inner.jpg", zip_of([("a.jpg", b"x")]))]))  # whatever its name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "The ZIP archive is damaged"),
        (zip_of([("a.jpg", b"x" * 999)])[:-30], "The ZIP archive is damaged"),
        (zip_of([]), "no files"),
        (zip_of([("folder/", b"")]), "no files"),
    ],
    ids=["nothing", "cut", "empty", "only folders"],
)
def test_a_damaged_or_empty_archive_gets_a_sentence(data, words):
    with pytest.raises(UnreadableMedia, match=words):
        opened(data)


def test_no_damage_ends_in_a_traceback():
    """Flipped, cut and repeated bytes end in files or in a sentence of the project."""
    chance = random.Random(7)
    good = zip_of([("a.jpg", b"\xff\xd8" * 90), ("ü/b.png", bytes(500))])
    outcomes = set()
    for _ in range(600):
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(data))
            if chance.random() < 0.8:
                data[place] = chance.randrange(256)
            else:
                del data[place : place + chance.randint(1, 9)]
        try:
            unpack_all(bytes(data))
            outcomes.add("files")
        except DetectorError as error:
            outcomes.add(str(error))
    assert {"files", "The ZIP archive is damaged or cut off."} < outcomes


def test_a_document_is_no_archive(face_jpeg):
    document = zip_of([("[Content_Types].xml", b"<Types/>")])
    answers = [archives.is_zip(io.BytesIO(data)) for data in (zip_of([("a", b"")]), document, face_jpeg, b"")]
    assert answers == [True, False, False, False]
