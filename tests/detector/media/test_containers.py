import struct

import numpy as np
import pytest
from clips import make_sound

from detector.media.containers import MAX_PACKETS
from detector.media.videos import probe, read_audio
from detector.results import MediaTooLarge, UnreadableMedia


def box(kind, *content):
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def numbers(*values):
    return struct.pack(f">{len(values)}I", *values)


def mp4_of(samples, *, handler=b"vide", fragments=0):
    """Return an MP4 file of under 2 KB whose header claims so many samples."""
    stbl = box(
        b"stbl",
        box(b"stsd", numbers(0, 0)),
        box(b"stts", numbers(0, 1, samples, 1)),
        box(b"stsz", numbers(0, 1, samples)),
    )
    trak = box(b"trak", box(b"mdia", box(b"hdlr", numbers(0, 0), handler, bytes(13)), box(b"minf", stbl)))
    moofs = [box(b"moof", box(b"traf", box(b"trun", numbers(0, samples))))] * fragments
    return box(b"ftyp", b"isom", numbers(512), b"isom") + box(b"moov", trak) + b"".join(moofs) + box(b"mdat", bytes(64))


def test_mp4_header_that_would_fill_the_memory_is_refused():
    bombs = [
        mp4_of(MAX_PACKETS + 1),
        mp4_of(MAX_PACKETS // 4, fragments=4),
        box(b"ftyp", b"isom") + box(b"moov", box(b"cmov", bytes(64))),
    ]
    for bomb in bombs:
        assert len(bomb) < 2000
        with pytest.raises(MediaTooLarge, match="5,000,000"):
            probe(bomb)
    # A sample of plain sound lasts 1/48,000 s, so more are allowed.
    with pytest.raises(UnreadableMedia):
        probe(mp4_of(MAX_PACKETS + 1, handler=b"soun"))
    nested = b""
    for _ in range(5000):
        nested = box(b"moov", nested)
    with pytest.raises(UnreadableMedia):
        probe(box(b"ftyp", b"isom") + nested)


def test_chunk_that_would_fill_the_memory_is_refused():
    data = make_sound(np.zeros(1600))
    start = data.index(b"LIST") + 4
    damaged = data[:start] + struct.pack("<I", 2**31) + data[start + 4 :]
    with pytest.raises(UnreadableMedia, match="a part of its header has 2,147,483,648 bytes"):
        read_audio(damaged)
    with pytest.raises(UnreadableMedia, match="more than 10,000 parts"):
        probe(b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 10_001)
