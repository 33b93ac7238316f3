import io
import random
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import make_sound, make_video
from PIL import Image
from project import ROOT

from detector.media import decoding
from detector.media.containers import DEMUXERS
from detector.media.videos import SAMPLE_RATE_HZ, open_media, probe, read_audio, sample_frames
from detector.results import DetectorError, MediaTooLarge, UnreadableMedia

pytestmark = pytest.mark.slow

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def walk(count, width=96, height=64):
    """Yield distinguishable frames: a bright bar moves over a changing gradient."""
    y, x = np.mgrid[0:height, 0:width]
    for i in range(count):
        frame = np.stack([(x + 5 * i) % 256, (2 * y + 3 * i) % 256, np.full_like(x, (40 * i) % 256)], axis=-1)
        frame[:, (4 * i) % width : (4 * i) % width + 8] = 255
        yield frame.astype(np.uint8)


def first_frame(source):
    return next(sample_frames(source))


def all_frames(source):
    return list(sample_frames(source, max_frames=20))


def tone(seconds=2.0, hz=440.0, rate_hz=SAMPLE_RATE_HZ, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def loudest_hz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return spectrum.argmax() * SAMPLE_RATE_HZ / len(waveform)


def decode_everything(data):
    """Return every frame by its time in seconds, decoded from beginning to end."""
    with av.open(io.BytesIO(data)) as container:
        frames = {frame.pts * frame.time_base: frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}
    return {time_s - min(frames): pixels for time_s, pixels in sorted(frames.items())}


OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}
VIDEOS = {
    "mp4": ({}, "video/mp4"),
    "mp4 with one keyframe": ({"gop": 500}, "video/mp4"),
    "mov": ({"format": "mov", "options": {"bf": "0"}}, "video/quicktime"),
    "webm": ({"format": "webm", "codec": "libvpx"}, "video/webm"),
    "mkv with open groups": ({"format": "matroska", "options": OPEN_GOP}, "video/x-matroska"),
    "avi": ({"format": "avi", "codec": "mpeg4"}, "video/x-msvideo"),
    "avi with frames out of order": ({"format": "avi", "codec": "mpeg4", "options": {"bf": "2"}}, "video/x-msvideo"),
}


@pytest.fixture(scope="module", params=VIDEOS)
def video(request):
    options, media_type = VIDEOS[request.param]
    return make_video(walk(100), **options), media_type


@pytest.mark.parametrize("every_s", [Fraction(1, 2), Fraction(1), Fraction(3)], ids=str)
def test_sampled_frames_equal_those_of_a_full_decode(video, every_s):
    data, _ = video
    frames = decode_everything(data)
    first = {time_s // every_s: time_s for time_s in reversed(frames)}
    sampled = list(sample_frames(data, every_s=float(every_s)))
    assert len(sampled) == len(first) == np.ceil(4 / every_s)
    for (time_s, pixels), due_s in zip(sampled, sorted(first.values()), strict=True):
        assert 0 <= time_s - due_s < 0.081  # two frames later where the first depends on two keyframes
        np.testing.assert_array_equal(pixels, next(frames[seen_s] for seen_s in frames if abs(seen_s - time_s) < 1e-6))


def test_probe_describes_a_video(video):
    info = probe(video[0])
    assert (info.media_type, info.width_px, info.height_px, info.rotation_degrees) == (video[1], 96, 64, 0)
    assert (info.has_video, info.has_audio, info.is_cut_off) == (True, False, False)
    assert info.duration_s == pytest.approx(4.0, abs=0.05) and info.last_frame_s == pytest.approx(3.96, abs=0.01)


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv with open groups", "avi with frames out of order"])
def test_packets_between_sparse_frames_are_skipped(kind, monkeypatch):
    data = make_video(walk(200), **VIDEOS[kind][0])
    fed = []
    decode = decoding.decode_packet
    with open_media(data) as media:
        assert media.info.has_video  # which decodes a frame of its own
        monkeypatch.setattr(
            decoding, "decode_packet", lambda with_, packet: fed.append(packet) or decode(with_, packet)
        )
        assert len(list(media.sample_frames(every_s=2.0))) == 4
    assert sum(packet is not None for packet in fed) < 40


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_frames_are_sampled_by_display_time(format):
    times_s = [0.0, 0.02, 0.9, 1.2, 1.3, 5.1, 5.2, 9.99, 10.0]
    sampled = list(sample_frames(make_video(walk(9), times_s=times_s, format=format)))
    assert [time_s for time_s, _ in sampled] == pytest.approx([0, 1.2, 5.1, 9.99, 10.0], abs=0.002)


def test_a_long_video_is_sampled_more_rarely_and_to_its_end():
    hours = make_video(walk(60), times_s=np.linspace(0, 36_000, 60))
    times_s = [time_s for time_s, _ in sample_frames(hours, max_frames=12)]
    assert len(times_s) == 12 and times_s[0] == 0 and times_s[-1] == pytest.approx(36_000)
    assert np.diff(times_s).max() < 4_000 and probe(hours).duration_s >= 36_000


def quarters():
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :32], frame[:24, 32:], frame[24:, :32], frame[24:, 32:] = RED, GREEN, BLUE, WHITE
    return frame


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(degrees, mirrored):
    data = make_video([quarters()] * 2, turn=(degrees, mirrored))
    expected = np.rot90(quarters(), degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    ((_, frame),) = sample_frames(data)
    assert frame.shape == expected.shape and frame.flags.c_contiguous
    for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8)):
        np.testing.assert_allclose(frame[y, x].astype(int), expected[y, x], atol=12)
    info = probe(data)
    assert (info.height_px, info.width_px) == frame.shape[:2]
    assert mirrored or info.rotation_degrees == -degrees % 360


def test_frames_are_scaled_to_square_pixels():
    data = make_video(walk(2), aspect=Fraction(4, 3))
    assert next(sample_frames(data))[1].shape == (64, 128, 3) and probe(data).width_px == 128


def test_all_frames_have_one_size_even_if_the_video_changes_it():
    frames = [next(walk(1)), next(walk(1, 192, 128))]
    small, large = (make_video([frame] * 30, format="avi", codec="mjpeg", options={"strict": "-1"}) for frame in frames)
    both = io.BytesIO()
    with av.open(io.BytesIO(small)) as one, av.open(io.BytesIO(large)) as two, av.open(both, "w", format="avi") as out:
        stream = out.add_stream_from_template(one.streams.video[0])
        packets = [packet for source in (one, two) for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.stream, packet.pts, packet.dts = stream, number, number
            out.mux(packet)
    sampled = [frame for _, frame in sample_frames(both.getvalue())]
    assert {frame.shape for frame in sampled} == {(64, 96, 3)} and len(sampled) == 3


def test_frames_after_false_keyframes_are_decoded():
    """With intra refresh a picture builds up over many frames, and the first of them is marked as a keyframe."""
    data = make_video(walk(150), options={"x264-params": "intra-refresh=1:keyint=20"})
    frames = {float(time_s): pixels for time_s, pixels in decode_everything(data).items()}
    sampled = list(sample_frames(data))
    assert [time_s for time_s, _ in sampled] == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.1)
    for time_s, pixels in sampled:
        np.testing.assert_array_equal(pixels, frames[time_s])


@pytest.fixture(scope="module")
def streamable(tmp_path_factory):
    """Return a video of eight seconds with the index in front, so that a truncated copy still begins well."""
    path = tmp_path_factory.mktemp("streams") / "video.mp4"
    with (
        av.open(io.BytesIO(make_video(walk(200)))) as source,
        av.open(path, "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("proportion", [0.3, 0.6, 0.85])
def test_the_rest_of_a_truncated_video_is_read(streamable, proportion):
    part = streamable[: int(len(streamable) * proportion)]
    times_s = [time_s for time_s, _ in sample_frames(part)]
    assert times_s == list(range(len(times_s))) and 0.5 * proportion < len(times_s) / 8 < proportion + 0.2
    info = probe(part)
    assert info.is_cut_off and info.duration_s == pytest.approx(8) and info.last_frame_s < 7.5
    assert not probe(streamable).is_cut_off


def test_the_next_good_frame_replaces_a_damaged_one(streamable):
    good = {round(time_s, 3): frame for time_s, frame in sample_frames(streamable, every_s=0.04)}
    chance = random.Random(4)
    broken = bytearray(streamable)
    start = streamable.index(b"mdat") + len(streamable) // 3
    for position in range(start, start + len(streamable) // 4, 20):
        broken[position] = chance.randrange(256)
    sampled = list(sample_frames(bytes(broken)))
    assert sampled[0][0] == 0 and sampled[-1][0] == 7 and len(sampled) > 3
    off = [np.abs(frame.astype(int) - good[round(time_s, 3)]).mean() > 25 for time_s, frame in sampled]
    assert not any(off)


MEMORY_PROBE = """
import gc, re, sys
from detector.media.videos import sample_frames
gc.disable()
used_kb = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
used = [used_kb() for _ in sample_frames(sys.argv[1])]
print(len(used), (used[-1] - used[15]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc reports the memory in use on Linux only")
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    path = tmp_path / "long.mp4"
    path.write_bytes(make_video([next(walk(1, 1280, 720))] * 60, fps=1))
    probe = subprocess.run([sys.executable, "-c", MEMORY_PROBE, path], capture_output=True, text=True, check=True)
    number, grown_bytes = map(int, probe.stdout.split())
    assert number == 60 and grown_bytes < 20_000_000  # 44 frames are 60 MB as they are stored and 120 MB in RGB


def test_one_frame_is_a_video():
    data = make_video(walk(1))
    assert [time_s for time_s, _ in sample_frames(data)] == [0.0] and probe(data).last_frame_s == 0


def test_paths_bytes_and_open_files_are_read_alike(tmp_path):
    data = make_video(walk(30), waveform=tone())
    path = tmp_path / "film.jpg"  # a misleading suffix
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (data, path, str(path), file):
            assert len(list(sample_frames(source))) == 2 and probe(source).has_audio
            assert loudest_hz(read_audio(source)) == pytest.approx(440, abs=3)
        assert not file.closed


def picture():
    buffer = io.BytesIO()
    Image.fromarray(quarters()).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "empty"),
    "a picture": (picture(), "is a picture"),
    "text": (b"no video at all\n" * 9, "plain text"),
    "the first bytes of a video": (make_video(walk(9))[:200], "damaged or cut off"),
    "a header and noise": (make_video(walk(9))[:40] + random.Random(0).randbytes(5000), "damaged or cut off"),
    "an index that is missing": (make_video(walk(50))[:-900], "that can be read"),
    "a name for sound and no more": (b"RIFF\x24\0\0\0WAVEfmt ", "damaged or cut off|track"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("read", [probe, read_audio, first_frame], ids=["probe", "audio", "frames"])
def test_unreadable_files_give_a_readable_error(read, data, words):
    with pytest.raises(UnreadableMedia, match=words):
        read(data)


@pytest.mark.parametrize("cover", [None, quarters()], ids=["plain", "with a cover"])
def test_sound_alone_is_not_a_video(cover):
    data = make_sound(tone(), format="mp3", codec="libmp3lame", cover=cover)
    info = probe(data)
    assert (info.media_type, info.has_video, info.has_audio) == ("audio/mpeg", False, True)
    assert info.duration_s == pytest.approx(2, abs=0.1)
    with pytest.raises(UnreadableMedia, match=r"\(audio/mpeg\) has no video track"):
        next(sample_frames(data))


def test_a_video_without_sound_has_no_waveform():
    with pytest.raises(UnreadableMedia, match=r"\(video/mp4\) has no audio track"):
        read_audio(make_video(walk(5)))


def test_too_large_frames_are_refused_before_decoding(monkeypatch):
    data = make_video(walk(5))
    monkeypatch.setattr(decoding, "MAX_FRAME_PIXELS", 96 * 64 - 1)
    for read in (probe, first_frame):
        with pytest.raises(MediaTooLarge, match="96 x 64 pixels, 6,144 in all; at most 6,143"):
            read(data)


DISGUISES = [b"", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\n", b"\x1a\x45\xdf\xa3\n", b"ID3\4\0\0\0\0\0\0"]


@pytest.mark.parametrize("disguise", DISGUISES, ids=repr)
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "<MPD><BaseURL>{path}</BaseURL></MPD>",
    ],
    ids=["playlist", "concat", "dash"],
)
def test_playlists_cannot_open_another_file(text, disguise, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(make_video(walk(30), waveform=tone()))
    path = tmp_path / "innocent.mp4"
    path.write_bytes(disguise + text.format(path=secret).encode())
    for read in (probe, read_audio, first_frame):
        with pytest.raises(UnreadableMedia):
            read(path)


def test_a_demuxer_cannot_open_another_file(tmp_path, monkeypatch):
    """No demuxer in use opens other files, so one that does replaces one of them here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.mp4").write_bytes(make_video(walk(30), waveform=tone()))
    path = tmp_path / "innocent.mov"
    path.write_bytes(b"\n\n\n#free\nffconcat version 1.0\nfile secret.mp4\n")  # QuickTime by its first bytes
    with av.open(path.name, format="concat") as container:
        assert next(container.decode(video=0)).width == 96
    monkeypatch.setitem(DEMUXERS, "video/quicktime", "concat")
    for read in (probe, read_audio, first_frame):
        with pytest.raises(UnreadableMedia, match=r"\(video/quicktime\) cannot be opened"):
            read(path)


def test_a_name_is_not_used_as_an_address(tmp_path, monkeypatch):
    (tmp_path / "secret.mp4").write_bytes(make_video(walk(30)))
    monkeypatch.chdir(tmp_path)
    for name in ("concat:secret.mp4|secret.mp4", "file:secret.mp4", "subfile,,start,0,end,0,,:secret.mp4"):
        with pytest.raises(UnreadableMedia, match="No such file"):
            probe(name)


SOUNDS = {
    "wav": ({}, "audio/wav"),
    "flac": ({"format": "flac", "codec": "flac"}, "audio/flac"),
    "mp3": ({"format": "mp3", "codec": "libmp3lame", "rate_hz": 44_100}, "audio/mpeg"),
    "ogg": ({"format": "ogg", "codec": "libopus", "rate_hz": 48_000}, "audio/ogg"),
    "m4a": ({"format": "ipod", "codec": "aac", "rate_hz": 44_100}, "audio/mp4"),
    "webm": ({"format": "webm", "codec": "libopus", "rate_hz": 48_000}, "video/webm"),
    "8 kHz wav": ({"rate_hz": 8_000}, "audio/wav"),
    "96 kHz float wav": ({"codec": "pcm_f32le", "rate_hz": 96_000}, "audio/wav"),
}


@pytest.mark.parametrize(("options", "media_type"), SOUNDS.values(), ids=SOUNDS)
def test_sound_is_converted_to_one_waveform(options, media_type):
    data = make_sound(tone(rate_hz=options.get("rate_hz", SAMPLE_RATE_HZ)), **options)
    waveform = read_audio(data)
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert len(waveform) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=0.15 * SAMPLE_RATE_HZ)
    assert loudest_hz(waveform) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(waveform[8000:24000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert probe(data).media_type == media_type and not probe(data).has_video


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 24, 64])
def test_channels_are_averaged_and_never_clip(channels):
    loud = np.tile(tone(0.5, level=0.99), (channels, 1))
    assert np.abs(read_audio(make_sound(loud))).max() == pytest.approx(0.99, abs=0.01)
    loud[0] = 0
    assert np.abs(read_audio(make_sound(loud))).max() == pytest.approx(0.99 * (channels - 1) / channels, abs=0.01)


def test_reading_ends_at_max_seconds():
    data = make_sound(tone(3.0))
    assert len(read_audio(data, max_seconds=1.25)) == 1.25 * SAMPLE_RATE_HZ
    assert len(read_audio(data)) == 3 * SAMPLE_RATE_HZ


def float_wav(samples, rate_hz=SAMPLE_RATE_HZ):
    body = np.asarray(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, rate_hz, (rate_hz * 4) % 2**32, 4, 32)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(body))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", len(body))
        + body
    )


def test_nan_and_very_loud_samples_are_clipped():
    samples = tone(0.5)
    samples[100:103] = np.nan, np.inf, -np.inf
    samples[200] = 1e30
    waveform = read_audio(float_wav(samples))
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1 and len(waveform) == 8000


@pytest.mark.parametrize("rate_hz", [1, 3_999, 384_001, 2**30])
def test_extreme_sample_rate_is_refused(rate_hz):
    with pytest.raises(UnreadableMedia, match=rf"{rate_hz:,} samples a second|cannot be"):
        read_audio(float_wav(tone(0.1), rate_hz))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_the_rest_of_truncated_sound_is_read(kind):
    options = SOUNDS[kind][0]
    data = make_sound(tone(4.0, rate_hz=options.get("rate_hz", SAMPLE_RATE_HZ)), **options)
    waveform = read_audio(data[: len(data) // 2])
    assert 1.2 < len(waveform) / SAMPLE_RATE_HZ < 2.8 and loudest_hz(waveform) == pytest.approx(440, abs=3)


def test_random_damage_gives_frames_and_sound_or_a_readable_error():
    chance = random.Random(6)
    good = [
        make_video(walk(30), waveform=tone(1.0)),
        make_video(walk(30), format="webm", codec="libvpx", waveform=tone(1.0)),
        make_video(walk(30), format="avi", codec="mpeg4"),
        make_sound(tone(1.0), format="mp3", codec="libmp3lame"),
        make_sound(tone(1.0), format="flac", codec="flac"),
    ]
    refused = 0
    for data in good * 12:
        broken = bytearray(data[: chance.choice([len(data), chance.randrange(1, len(data))])])
        for _ in range(chance.choice([1, 8, 64])):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        for read in (probe, read_audio, all_frames):
            try:
                read(bytes(broken))
            except DetectorError as error:
                assert str(error).endswith(".")
                refused += 1
    assert 20 < refused < 160


@pytest.mark.parametrize("module", ["detector", "detector.cli", "webapp"])
def test_heavy_libraries_are_imported_only_when_used(module):
    heavy = {"av", "c2pa", "matplotlib", "scipy", "skimage", "sklearn"}
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
