"""Reports, bundles and their verification for videos and recordings of voices."""

import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from bundles import changed_record, members, packed
from clips import make_sound, make_video, pan_over
from PIL import Image
from voices import speak

from detector.models.calibration import Calibration
from detector.reports import bundle as bundles
from detector.reports import verification
from detector.reports.bundle import build_bundle
from detector.reports.drawings import VERDICT_COLOURS, Bar, draw_scores, split_overlaps
from detector.reports.evidence import Evidence
from detector.reports.rendering import render_html, render_pdf
from detector.reports.report import make_report
from detector.reports.verification import TOLERANCES, verify_bundle
from detector.results import MediaTooLarge, Reason, UnreadableMedia, Verdict
from detector.voices.detect import VOICE_MODEL_FILES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VOICE_MODEL_FILES["onnx"].is_file(), reason="Videos and recordings need the voice model."),
]
STEP_S = 0.5


@pytest.fixture(scope="module")
def collect(tmp_path_factory, portrait, real_detector):
    """Return a function that analyses a clip with sound, or a recording, and collects the evidence."""
    folder = tmp_path_factory.mktemp("recordings")
    clip = make_video(pan_over(portrait, 20), fps=5, waveform=speak(4.0))
    paths = {"video": folder / "clip", "audio": folder / "memo"}
    paths["video"].write_bytes(clip)
    paths["audio"].write_bytes(make_sound(speak(4.0)))
    made = {}

    def analyse(media):
        if media not in made:
            detection = real_detector.detect(paths[media], every_s=STEP_S)
            sound_spec = real_detector.engine_of("audio").spec if media == "video" else None
            made[media] = Evidence(
                data=paths[media],
                detection=detection,
                spec=real_detector.engine_of(media).spec,
                sound_spec=sound_spec,
                filename="it.file",
                checked_at=datetime(2026, 11, 20, 8, 39, tzinfo=UTC),
            )
        return made[media]

    return analyse


@pytest.fixture(scope="module")
def bundle_of(collect):
    made = {}
    return lambda media: made.setdefault(media, build_bundle(collect(media)))


@pytest.mark.parametrize(
    ("media", "original", "said"),
    [
        (
            "video",
            "original.mp4",
            ["All 3 files", "SHA-256 is the same", "verdict is the same", "faces in the sampled"],
        ),
        ("audio", "original.wav", ["All 3 files", "SHA-256 is the same", "verdict is the same", "of all parts ("]),
    ],
)
def test_a_bundle_verifies_and_says_what_is_the_same(media, original, said, bundle_of, collect, real_detector):
    bundle = bundle_of(media)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert set(archive.namelist()) == {"README.txt", "report.html", "report.pdf", "detection.json", original}
        stored = archive.getinfo(original)
        assert stored.compress_type == zipfile.ZIP_STORED and archive.read(original) == collect(media).data.read_bytes()
    checked = verify_bundle(io.BytesIO(bundle), real_detector)
    assert checked.differences == () and checked.detection.media == media
    assert all(any(words in sentence for sentence in checked.matches) for words in said)
    assert len(checked.matches) == {"video": 7, "audio": 6}[media]


def first(values):
    return (
        values["detection"]["tracks"][0]["frames"][0]
        if "tracks" in values["detection"]
        else (values["detection"]["segments"][0])
    )


@pytest.mark.parametrize(
    ("media", "change", "named", "lost"),
    [
        ("video", lambda r: first(r).update(logit=9.0), ["detection.tracks[0].frames[0].logit"], "sampled frames"),
        ("video", lambda r: first(r).update(logit=first(r)["logit"] + 5e-4), [], None),
        ("video", lambda r: r["detection"]["sound"].update(logit=9.0), ["detection.sound.logit"], "of the sound"),
        ("video", lambda r: r["sound_model"].update(sha256="0" * 64), ["SHA-256 of the voice model"], "The model is"),
        ("video", lambda r: r["input"].update(sha256="0" * 64), ["SHA-256 of the original"], "The original is"),
        ("audio", lambda r: first(r).update(logit=9.0), ["detection.segments[0].logit"], "all parts"),
        ("audio", lambda r: r["detection"].update(verdict="real?"), ["verdict"], "The verdict is"),
        ("audio", lambda r: r["preprocessing"].update(bands=7), ["preprocessing.bands"], None),
        ("audio", lambda r: r["detection"].update(logit=9.0), ["logit"], "The score is"),
    ],
)
def test_each_altered_value_is_named(media, change, named, lost, bundle_of, real_detector):
    checked = verify_bundle(changed_record(bundle_of(media), change), real_detector)
    assert [sentence.partition(":")[0] for sentence in checked.differences] == named
    assert lost is None or not any(lost in sentence for sentence in checked.matches)


def test_the_same_frames_are_sampled_again(bundle_of, collect, real_detector):
    assert json.loads(members(bundle_of("video"))["detection.json"])["preprocessing"]["every_s"] == STEP_S
    bundle = changed_record(bundle_of("video"), lambda record: record["preprocessing"].update(every_s="soon"))
    assert "preprocessing.every_s" in " ".join(verify_bundle(bundle, real_detector).differences)


def test_without_the_original_it_has_to_be_given(collect, real_detector, monkeypatch):
    evidence = collect("audio")
    monkeypatch.setattr(bundles, "MAX_ORIGINAL_BYTES", 99)  # a file that is too large is left out
    short = build_bundle(evidence)
    assert not any(name.startswith("original") for name in members(short))
    with pytest.raises(UnreadableMedia, match="--file"):
        verify_bundle(short, real_detector)
    assert verify_bundle(short, real_detector, original=evidence.data).differences == ()


def test_another_medium_in_its_place_is_all_differences(bundle_of, face_jpeg, real_detector):
    checked = verify_bundle(bundle_of("audio"), real_detector, original=face_jpeg)
    assert checked.detection.media == "image" and "SHA-256 of the original" in checked.differences[0]
    assert any(sentence.startswith("detection.media") for sentence in checked.differences)


def test_a_packed_recording_counts_as_what_it_would_unpack_to(bundle_of, real_detector, monkeypatch):
    """A recording is unpacked onto the disk, so it must not grow there."""
    files = members(bundle_of("audio"))
    monkeypatch.setattr(verification, "MAX_UNPACKED_BYTES", len(files["original.wav"]) - 1)
    monkeypatch.setattr(verification, "MAX_BUNDLE_BYTES", 10**9)
    small = {name: files[name] for name in ("detection.json", "original.wav")}
    with pytest.raises(MediaTooLarge, match="unpack"):
        verify_bundle(packed(small, zipfile.ZIP_DEFLATED), real_detector)
    assert verify_bundle(packed(small), real_detector).detection is not None


@pytest.mark.parametrize("media", ["video", "audio"])
def test_the_report_shows_scores_over_time(media, collect):
    evidence = collect(media)
    page = render_html(make_report(evidence, version="1.2.3"))
    noun, charts = {"video": ("Video", 3), "audio": ("Voice", 1)}[media]
    reasons = evidence.detection.reasons
    assert make_report(replace(evidence, detection=replace(evidence.detection, verdict=Verdict.REAL, reasons=())),
                       version="1").headline == f"This is a Real {noun}!"  # fmt: skip
    assert all(reason in Reason for reason in reasons)
    for words in ("it.file", evidence.facts.sha256, evidence.detection.model_sha256, "20 November 2026"):
        assert words in page
    assert page.count("<img") >= charts and "Higher means more likely fake." in page
    if media == "audio":
        assert len(re.findall(r"<dt>\d+\.\d to \d+\.\d s</dt>", page)) == len(evidence.detection.segments)
    else:
        assert "The frames with the highest scores, at " in page and "SHA-256 of the voice model" in page
    assert render_pdf(make_report(evidence, version="1.2.3")).startswith(b"%PDF-")


@pytest.mark.parametrize("media", ["video", "audio"])
def test_what_was_not_checked_has_no_number(media, collect):
    reason = {"video": Reason.TOO_FEW_FRAMES, "audio": Reason.NOISY}[media]
    evidence = collect(media)
    detection = replace(evidence.detection, verdict=Verdict.INCONCLUSIVE, reasons=(reason,), error_rates=())
    if media == "video":
        tracks = tuple(replace(track, reasons=(reason,)) for track in detection.tracks)
        detection = replace(detection, tracks=tracks, sound=None)
    page = render_html(make_report(replace(evidence, detection=detection), version="1"))
    assert "Could not be checked: " in page and not re.search("logit|probability|<img", page, re.IGNORECASE)


def test_the_error_sentence_stands_in_where_there_are_no_rates(collect):
    evidence = replace(collect("video"), error_sentence="Videos were hardly tested.")
    detection = replace(evidence.detection, verdict=Verdict.REAL, reasons=())
    assert (
        make_report(replace(evidence, detection=detection), version="1").paragraphs[0] == "Videos were hardly tested."
    )


def test_parts_that_overlap_meet_in_the_middle_and_a_pause_stays_empty():
    assert split_overlaps([(0, 2.5), (1.2, 3.7), (6, 8.5)]) == [(0, 1.85), (1.85, 3.7), (6, 8.5)]
    assert split_overlaps([(1, 2)]) == [(1, 2)]


def test_bars_have_the_colour_of_their_verdict():
    bars = [Bar(0, 1, 0.1), Bar(1, 2, 0.5), Bar(2, 3, 0.9)]
    chart = np.asarray(Image.open(io.BytesIO(draw_scores(bars, 3.0, Calibration(1, 0, 0.2, 0.8))))).astype(int)
    places = [chart[210, x] for x in (200, 500, 800)]
    order = (Verdict.REAL, Verdict.INCONCLUSIVE, Verdict.DEEPFAKE)
    assert all(np.abs(seen - VERDICT_COLOURS[verdict]).max() < 20 for seen, verdict in zip(places, order, strict=True))
    assert (chart[100, 200] > 200).all() and (chart[100, 800] < 200).any()


def test_every_tolerance_is_for_a_number_of_a_record(bundle_of, collect, face_jpeg, real_detector):
    detection = real_detector.detect(face_jpeg)
    spec = real_detector.pictures.engine.spec
    picture = build_bundle(Evidence(data=face_jpeg, detection=detection, spec=spec))
    bundles_of_all = [picture, bundle_of("video"), bundle_of("audio")]
    text = "".join(members(bundle)["detection.json"].decode() for bundle in bundles_of_all)
    assert all(f'"{key}":' in text for key in TOLERANCES)
