"""Read videos and sound: what a file contains, one frame for each step of time, and the sound as one waveform.

A file is opened only as the container that its first bytes state, from an open file and without any protocol. So
neither its name nor a playlist inside can make FFmpeg read another file. The header's claims about length and keyframes
are checked against the packets; of a file that is cut off, what is left is read.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from detector.media.containers import DEMUXERS, check_header_limits
from detector.media.files import open_file
from detector.media.kinds import HEAD_BYTES, sniff
from detector.results import UnreadableMedia
from detector.stages import stage
from detector.text import translatable

if TYPE_CHECKING:
    from detector.media.decoding import VideoTrack

MAX_FRAMES = 3600  # an hour at one a second; in longer videos the sampled frames lie further apart
SAMPLE_RATE_HZ = 16_000
MAX_SOUND_S = 600.0  # 38 MB
CUT_OFF_S = 0.5  # a file is cut off when it ends so much earlier than its header states

MediaSource = str | Path | bytes | BinaryIO
Frames = Generator[tuple[float, np.ndarray], None, None]


@dataclass(frozen=True)
class StreamInfo:
    """What a file contains.

    Attributes:
        media_type: as `sniff` returns it.
        duration_s: as the header states, else up to the last packet; None when neither is known.
        has_video: there are frames, and not only a cover picture.
        has_audio: there is an audio track, silent or not.
        width_px, height_px: of the upright frames; 0 without a video.
        rotation_degrees: clockwise turn from a stored to an upright frame: 0, 90, 180 or 270; not meaningful for
            mirrored frames.
        last_frame_s: time of the last frame in the file; 0 without a video.
        is_cut_off: the header states more than the file contains.
    """

    media_type: str
    duration_s: float | None
    has_video: bool
    has_audio: bool
    width_px: int = 0
    height_px: int = 0
    rotation_degrees: int = 0
    last_frame_s: float = 0.0
    is_cut_off: bool = False


class MediaReader:
    """An open video or sound file; `open_media` creates it.

    FFmpeg opens the file once for `info`, once for the frames and once for the sound; once more for damaged frames.

    Attributes:
        media_type: as `sniff` returns it.
    """

    def __init__(self, file: BinaryIO, media_type: str):
        self.media_type = media_type
        self._file = file

    @property
    def info(self) -> StreamInfo:
        """What the file contains; all packets of a video are read once.

        Raises:
            UnreadableMedia: the file is damaged from the start, or without a track that can be decoded.
            MediaTooLarge: its frames have more than `decoding.MAX_FRAME_PIXELS`.
        """
        return self._probed[0]

    def sample_frames(self, *, every_s: float = 1.0, max_frames: int = MAX_FRAMES) -> Frames:
        """Yield one frame for each step of time; see the function `sample_frames`."""
        from detector.media import decoding

        track = self._probed[1]
        if track is None:
            raise UnreadableMedia(
                translatable("The file ({media_type}) has no video track that can be read.").format(
                    media_type=self.media_type
                )
            )
        wanted = _choose_times(track.packets, every_s / float(track.time_base), max_frames)
        sent, matrix = 0, None
        # The second round is for damaged videos and for those whose keyframes are not real ones.
        for is_needed in (_find_needed(track.packets, wanted), np.ones(len(track.packets), bool)):
            with decoding.open_container(self._rewound(), self.media_type) as container:
                for time, frame in decoding.decode_frames(container, track.packets, wanted[sent:], is_needed):
                    sent += 1
                    matrix = matrix or decoding.display_matrix(frame)
                    pixels = decoding.turn_upright(frame, track.stored_size_px, matrix)
                    yield float((time - int(wanted[0])) * track.time_base), pixels
            if sent == len(wanted):
                break
        if sent == 0:
            raise UnreadableMedia(
                translatable(
                    "No frame of the video ({media_type}) can be read: it is empty, damaged or cut off."
                ).format(media_type=self.media_type)
            )

    @stage("decode")
    def read_audio(self, *, max_seconds: float = MAX_SOUND_S) -> np.ndarray:
        """Read the sound as one waveform; see the function `read_audio`."""
        from detector.media import decoding

        blocks = []
        missing = round(max_seconds * SAMPLE_RATE_HZ)
        with decoding.open_container(self._rewound(), self.media_type) as container:
            stream = decoding.find_audio(container)
            if stream is None:
                raise UnreadableMedia(
                    translatable("The file ({media_type}) has no audio track that can be read.").format(
                        media_type=self.media_type
                    )
                )
            for block in decoding.decode_sound(container, stream, SAMPLE_RATE_HZ):
                blocks.append(block[:missing])
                missing -= len(blocks[-1])
                if missing <= 0:
                    break
        if not blocks:
            raise UnreadableMedia(
                translatable("The sound ({media_type}) cannot be read: it is empty, damaged or cut off.").format(
                    media_type=self.media_type
                )
            )
        waveform: np.ndarray = np.clip(np.nan_to_num(np.concatenate(blocks), posinf=0, neginf=0), -1, 1)
        return waveform

    @cached_property
    def _probed(self) -> tuple[StreamInfo, VideoTrack | None]:
        from detector.media import decoding

        with decoding.open_container(self._rewound(), self.media_type) as container:
            stream = decoding.find_video(container)
            has_audio = decoding.find_audio(container) is not None
            stated_s = max(container.duration or 0, 0) / decoding.TIME_BASE or None
            track = None if stream is None else decoding.read_track(container, stream)
        if track is None:
            if not has_audio:
                raise UnreadableMedia(
                    translatable(
                        "The file ({media_type}) has neither a video nor an audio track that can be read."
                    ).format(media_type=self.media_type)
                )
            return StreamInfo(self.media_type, stated_s, has_video=False, has_audio=True), None
        width_px, height_px = track.size_px
        info = StreamInfo(
            self.media_type,
            stated_s or track.length_s,
            has_video=True,
            has_audio=has_audio,
            width_px=width_px,
            height_px=height_px,
            rotation_degrees=track.rotation_degrees,
            last_frame_s=track.last_frame_s,
            is_cut_off=stated_s is not None and track.length_s < stated_s - CUT_OFF_S,
        )
        return info, track

    def _rewound(self) -> BinaryIO:
        self._file.seek(0)
        return self._file


@contextmanager
def open_media(source: MediaSource) -> Iterator[MediaReader]:
    """Open a video or sound file, identify it and check its header.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek, which stays open.

    Raises:
        UnreadableMedia: the file is neither video nor sound, or its header is damaged.
        MediaTooLarge: its header claims too many samples.
    """
    with ExitStack() as stack:
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        elif isinstance(source, str | Path):
            source = stack.enter_context(open_file(source))
        source.seek(0)
        media_type = sniff(source.read(HEAD_BYTES))
        if media_type not in DEMUXERS:
            raise UnreadableMedia(
                translatable("The file is a picture ({media_type}), neither video nor sound.").format(
                    media_type=media_type
                )
            )
        check_header_limits(source, media_type)
        yield MediaReader(source, media_type)


def probe(source: MediaSource) -> StreamInfo:
    """Return what a video or sound file contains; of a video every packet is read and one frame decoded.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.

    Raises:
        UnreadableMedia: neither video nor sound, damaged from the start, or without a track that can be decoded.
        MediaTooLarge: its frames have more than `decoding.MAX_FRAME_PIXELS`.
    """
    with open_media(source) as media:
        return media.info


def sample_frames(source: MediaSource, *, every_s: float = 1.0, max_frames: int = MAX_FRAMES) -> Frames:
    """Yield one frame for each step of time, in one pass that decodes as little as possible.

    The frame of a step is the first one displayed in it, or one soon after where the first depends on two keyframes. A
    picture that stands still over several steps is yielded once. In a video with more than `max_frames` such frames,
    that many are spread evenly. The next good frame replaces a damaged one. Only a few frames are in memory at a time,
    however long the video is.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.
        every_s: length of a step, over 0.
        max_frames: the largest number of frames.

    Yields:
        timestamp_s, from the first frame on, and the frame, (H, W, 3) uint8 RGB in [0, 255], turned upright and with
        square pixels. All frames have the size that the header states, even where the size changes.

    Raises:
        UnreadableMedia: not a video, sound only, or no frame can be decoded.
        MediaTooLarge: its frames have more than `decoding.MAX_FRAME_PIXELS`.
    """
    with open_media(source) as media:
        yield from media.sample_frames(every_s=every_s, max_frames=max_frames)


def read_audio(source: MediaSource, *, max_seconds: float = MAX_SOUND_S) -> np.ndarray:
    """Read the sound of an audio file or a video, with its channels averaged.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.
        max_seconds: where reading ends.

    Returns:
        (T,) float32 mono in [-1, 1] at `SAMPLE_RATE_HZ`. Of damaged sound, the parts that can be decoded, joined.

    Raises:
        UnreadableMedia: neither video nor sound, no audio track, or none of it can be decoded.
    """
    with open_media(source) as media:
        return media.read_audio(max_seconds=max_seconds)


def _choose_times(packets: np.ndarray, step: float, max_frames: int) -> np.ndarray:
    """Return when the frame of each step is displayed, (K,) int64 ascending; `step` is in the track's time unit."""
    group = np.cumsum(packets["is_key"])
    is_start = np.diff(group, prepend=-1) != 0
    # A frame decoded after a keyframe and displayed before it depends on both sides, so a jump could not reach it.
    leads = packets["time"] < packets["time"][is_start][np.cumsum(is_start) - 1]
    times = np.unique(packets["time"][packets["is_shown"] & ~leads])
    _, first = np.unique((times - times[:1]) // step, return_index=True)
    if len(first) > max_frames:
        first = first[np.linspace(0, len(first) - 1, max_frames).round().astype(int)]
    chosen: np.ndarray = times[first]
    return chosen


def _find_needed(packets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return (N,) bool, the packets to decode: from a keyframe to the last wanted frame that depends on it."""
    index = np.arange(len(packets))
    group = np.cumsum(packets["is_key"])
    last = np.full(group.max(initial=0) + 1, -1)
    is_wanted = np.isin(packets["time"], wanted)
    np.maximum.at(last, group[is_wanted], index[is_wanted])
    is_needed: np.ndarray = index <= last[group]
    return is_needed
