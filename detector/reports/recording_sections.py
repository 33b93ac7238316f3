"""The parts of a report that only a video or a recording has: scores over time, faces and parts of the sound."""

from __future__ import annotations

from collections.abc import Iterator

from detector.models.calibration import Calibration
from detector.models.spec import ModelSpec
from detector.reports.drawings import Bar, draw_scores, draw_strip, split_overlaps
from detector.reports.evidence import Evidence
from detector.reports.phrases import headline, reason_sentence, was_checked
from detector.reports.structure import ReportPicture, Section
from detector.results import Track, Verdict, VideoDetection, VoiceDetection
from detector.text import format_count, format_probability

MAX_REPORTED_TRACKS = 8  # drawn and described; a bundle's JSON holds all of them
MAX_LISTED_SEGMENTS = 120  # listed: five minutes of speech
BARS_CAPTION = "Higher means more likely fake. The dashed lines are the thresholds."
VOTE_WORDS = {Verdict.REAL: "lean real", Verdict.INCONCLUSIVE: "are between", Verdict.DEEPFAKE: "lean fake"}


def video_facts(detection: VideoDetection) -> Iterator[tuple[str, str]]:
    """Yield what is known about a video beside its file."""
    yield "Dimensions", f"{format_count(detection.width_px)} × {format_count(detection.height_px)} pixels"
    yield "Duration", f"{detection.duration_s:.1f} s"
    yield "Sampled frames", format_count(detection.frames_seen)


def video_details(evidence: Evidence, detection: VideoDetection) -> Iterator[Section]:
    """Yield the faces of a video, each with its timeline, and the sound."""
    for number, track in enumerate(detection.tracks[:MAX_REPORTED_TRACKS], 1):
        yield _track_section(number, track, detection, evidence.spec.calibration)
    if len(detection.tracks) > MAX_REPORTED_TRACKS:
        more = len(detection.tracks) - MAX_REPORTED_TRACKS
        yield Section("Further faces", paragraphs=(f"{more} less suspicious faces are only in detection.json.",))
    yield from evidence.sections
    if detection.sound is not None:
        yield _sound_section(detection.sound, evidence.sound_spec)


def voice_facts(detection: VoiceDetection) -> Iterator[tuple[str, str]]:
    """Yield what is known about a recording beside its file."""
    yield "Duration", f"{detection.duration_s:.1f} s"


def voice_details(evidence: Evidence, detection: VoiceDetection) -> Iterator[Section]:
    """Yield the score of each part of a recording."""
    if detection.segments and was_checked(detection.reasons):
        picture = _draw_segments(detection, evidence.spec.calibration)
        yield Section("Score of each part", pictures=(picture,), facts=tuple(_segment_facts(detection)))
    yield from evidence.sections


def voice_network_facts(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield how the sound was prepared and scored."""
    window = spec.voice
    yield "Network", f"{spec.network}, spectrograms of {window.window_s:g} s at most {window.hop_s:g} s apart"
    yield "Sound", f"mono, {format_count(window.sample_rate_hz)} samples a second, at one level"


def _track_section(number: int, track: Track, video: VideoDetection, calibration: Calibration) -> Section:
    facts = [("In view", f"{len(track.frames)} sampled frames")]
    if not was_checked(track.reasons):
        sentences = tuple(reason_sentence(reason) for reason in track.reasons)
        return Section(f"Face {number}", paragraphs=sentences, facts=tuple(facts))
    votes = (f"{track.votes.get(verdict, 0):.0%} {words}" for verdict, words in VOTE_WORDS.items())
    facts += [
        ("Probability of being fake", f"{format_probability(track.probability)} (logit {track.logit:.4f})"),
        ("Its frames", ", ".join(votes)),
    ]
    step_s = min(_gaps_s(track), default=video.every_s)
    bars = [Bar(frame.timestamp_s, frame.timestamp_s + step_s, frame.probability) for frame in track.frames]
    pictures = [ReportPicture(draw_scores(bars, video.duration_s, calibration), f"Each bar is a frame. {BARS_CAPTION}")]
    strongest = [frame for frame in track.frames if frame.crop is not None and frame.crop.size]
    if strongest:
        times = ", ".join(f"{frame.timestamp_s:.1f} s" for frame in strongest)
        strip = draw_strip([frame.crop for frame in strongest if frame.crop is not None])
        pictures.append(ReportPicture(strip, f"The frames with the highest scores, at {times}."))
    return Section(f"Face {number}", pictures=tuple(pictures), facts=tuple(facts))


def _gaps_s(track: Track) -> Iterator[float]:
    for one, other in zip(track.frames, track.frames[1:], strict=False):
        if other.timestamp_s > one.timestamp_s:
            yield other.timestamp_s - one.timestamp_s


def _sound_section(sound: VoiceDetection, spec: ModelSpec | None) -> Section:
    lines = ["Checked separately from the faces. It does not affect the verdict above."]
    if not was_checked(sound.reasons) or spec is None:
        return Section("The sound", paragraphs=(*lines, *map(reason_sentence, sound.reasons)))
    lines += [headline(sound.verdict, sound.media, sound.reasons), *map(reason_sentence, sound.reasons)]
    probability = ("Probability of being fake", f"{format_probability(sound.probability)} (logit {sound.logit:.4f})")
    pictures = (_draw_segments(sound, spec.calibration),) if sound.segments else ()
    facts = (probability, *voice_network_facts(spec), ("SHA-256 of the voice model", sound.model_sha256))
    return Section("The sound", paragraphs=tuple(lines), pictures=pictures, facts=facts)


def _draw_segments(voice: VoiceDetection, calibration: Calibration) -> ReportPicture:
    times_s = split_overlaps([(segment.start_s, segment.end_s) for segment in voice.segments])
    bars = [
        Bar(start_s, end_s, segment.probability)
        for (start_s, end_s), segment in zip(times_s, voice.segments, strict=True)
    ]
    return ReportPicture(draw_scores(bars, voice.duration_s, calibration), f"Each bar is a part. {BARS_CAPTION}")


def _segment_facts(voice: VoiceDetection) -> Iterator[tuple[str, str]]:
    for segment in voice.segments[:MAX_LISTED_SEGMENTS]:
        score = f"{format_probability(segment.probability)} (logit {segment.logit:.4f})"
        yield f"{segment.start_s:.1f} to {segment.end_s:.1f} s", score
    if len(voice.segments) > MAX_LISTED_SEGMENTS:
        yield "Further parts", f"{len(voice.segments) - MAX_LISTED_SEGMENTS} are only in detection.json"
