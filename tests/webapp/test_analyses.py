import hashlib
import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from clips import make_video, pan_over
from project import ROOT
from sqlalchemy import func, select

import detector
from detector import MediaTooLarge, UnreadableMedia
from detector.record import to_record
from webapp import analyses, page_files
from webapp.detector_thread import DetectorThread
from webapp.models import Analysis, State, Upload, db
from webapp.storage import Storage

pytestmark = pytest.mark.slow


@pytest.fixture
def context(app):
    with app.app_context():
        yield


def submit(data, visitor="somebody", **more):
    return analyses.submit(io.BytesIO(data), **{"filename": "face.jpg", "visitor": visitor, **more})


def references():
    return db.session.scalar(select(Upload.reference_count))


def test_a_submitted_picture_has_the_verdict_of_the_detector(context, face_jpeg, real_detector):
    kept = analyses.get(submit(face_jpeg, filename="me.jpg").id, "somebody")
    said = real_detector.detect(face_jpeg)
    assert (kept.verdict, kept.probability, kept.media) == (said.verdict, pytest.approx(said.probability), "image")
    assert kept.result["faces"] == to_record(said)["faces"]
    calibration = real_detector.pictures.engine.spec.calibration
    assert (kept.threshold_real, kept.threshold_fake) == (calibration.threshold_real, calibration.threshold_fake)
    assert (kept.upload_sha256, kept.filename) == (hashlib.sha256(face_jpeg).hexdigest(), "me.jpg")
    assert (kept.upload.size_bytes, kept.upload.media_type) == (len(face_jpeg), "image/jpeg")
    assert kept.created_at.utcoffset().total_seconds() == 0


def test_the_files_are_the_upload_itself_and_what_the_page_shows(context, face_jpeg, stored_files):
    analysis = submit(face_jpeg)
    folder = f"analyses/{analysis.id}"
    assert stored_files() == [
        *(f"{folder}/{name}" for name in ("crop.png", "heatmap-0.png", "picture.jpg", "thumbnail.jpg")),
        f"uploads/{analysis.upload_sha256}",
    ]
    with analyses.open_file(analysis, page_files.PICTURE) as file:
        assert detector.media.read_image(file.read()).shape == (512, 512, 3)
    with analyses.open_file(analysis, page_files.THUMBNAIL) as file:
        assert max(detector.media.read_image(file.read()).shape) == page_files.THUMBNAIL_SIDE_PX


def test_the_picture_shown_is_no_larger_than_a_page(context, astronaut):
    large = np.asarray(astronaut.resize((1700, 1750)))
    with analyses.open_file(submit(detector.media.encode_jpeg(large)), page_files.PICTURE) as file:
        assert detector.media.read_image(file.read()).shape[0] == page_files.PREVIEW_SIDE_PX


def test_only_the_visitor_who_sent_it_gets_it(context, face_jpeg):
    analysis = submit(face_jpeg, "alice")
    assert analyses.get(analysis.id, "alice") and analyses.recent("alice") == [analysis]
    for stranger in ("bob", None, ""):
        assert analyses.get(analysis.id, stranger) is None
        assert analyses.recent(stranger) == []
        assert analyses.delete(analysis.id, stranger) is False
    assert analyses.get(analysis.id, "alice")


def test_recent_lists_the_newest_first_and_not_for_ever(context, face_jpeg):
    ids = [submit(face_jpeg).id for _ in range(analyses.RECENT_ANALYSES + 1)]
    assert [analysis.id for analysis in analyses.recent("somebody")] == ids[:0:-1]


def test_the_bytes_go_with_the_last_analysis_that_refers_to_them(context, face_jpeg, stored_files):
    first, second = submit(face_jpeg, "alice").id, submit(face_jpeg, "bob").id
    assert references() == 2
    assert analyses.delete(first, "alice") is True
    assert analyses.delete(first, "alice") is False
    assert references() == 1 and {name.split("/")[0] for name in stored_files()} == {"analyses", "uploads"}
    assert not [name for name in stored_files() if first in name]
    assert analyses.delete(second, "bob") is True
    assert references() is None and stored_files() == []


def test_the_same_bytes_are_analysed_again(context, face_jpeg, real_detector, monkeypatch):
    analysed = []
    detect = real_detector.detect
    monkeypatch.setattr(real_detector, "detect", lambda data, **how: analysed.append(data) or detect(data, **how))
    assert submit(face_jpeg, "alice").id != submit(face_jpeg, "bob").id
    assert len(analysed) == 2


def test_a_lost_file_comes_back_with_the_same_bytes(context, face_jpeg, app, stored_files):
    path = f"uploads/{submit(face_jpeg).upload_sha256}"
    app.extensions["storage"].delete(path)
    submit(face_jpeg)
    assert path in stored_files()


@pytest.mark.parametrize("failing_save", range(1, 6))
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_failure_leaves_nothing_behind(context, face_jpeg, stored_files, monkeypatch, failing_save, seen_before):
    if seen_before:
        submit(face_jpeg, "alice")
    before, count = stored_files(), references()
    save, saves = Storage.save, 0

    def fail(storage, name, data):
        nonlocal saves
        saves += 1
        if saves == failing_save:
            raise OSError("disk full")
        save(storage, name, data)

    monkeypatch.setattr(Storage, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        submit(face_jpeg, "bob")
    assert (stored_files(), references()) == (before, count)
    assert db.session.scalar(select(func.count()).select_from(Analysis)) == int(seen_before)


def test_a_commit_that_fails_leaves_nothing_behind(context, face_jpeg, stored_files, monkeypatch):
    monkeypatch.setattr(db.session, "commit", lambda: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        submit(face_jpeg)
    assert (stored_files(), references()) == ([], None)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", UnreadableMedia, "empty"),
        (b"hello", analyses.UnsupportedMedia, "plain text"),
        (b"\xff\xd8\xff" + b"0" * 1_000_000, MediaTooLarge, "1.0 MB; at most 1 MB"),
    ],
)
def test_what_cannot_be_analysed_is_refused_and_not_kept(make_app, data, error, words, stored_files):
    with make_app(MAX_UPLOAD_MB=1).app_context():
        with pytest.raises(error, match=words):
            submit(data)
        assert (stored_files(), references()) == ([], None)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"\x1aE\xdf\xa3" + b"webm" * 300_000, MediaTooLarge, "1.2 MB; at most 1 MB"),
        (b"RIFF\0\0\0\0WAVE" + bytes(1_200_000), MediaTooLarge, "1.2 MB; at most 1 MB"),
        (b"a text that calls itself a video", analyses.UnsupportedMedia, "plain text"),
    ],
)
def test_a_recording_has_a_limit_of_its_own_and_nothing_refused_is_kept(make_app, data, error, words, stored_files):
    with make_app(MAX_UPLOAD_MB=200, MAX_RECORDING_MB=1).app_context():
        with pytest.raises(error, match=words):
            submit(data, filename="holiday.mp4")
        assert (stored_files(), references()) == ([], None)


def test_a_video_is_kept_and_waits(context, portrait, stored_files):
    data = make_video(pan_over(portrait, 10))
    analysis = analyses.get(submit(data, filename="holiday.mp4").id, "somebody")
    assert (analysis.state, analysis.media, analysis.upload.media_type) == (State.WAITING, "video", "video/mp4")
    assert (analysis.verdict, analysis.probability, analysis.result) == (None, None, {})
    with analyses.claimed_upload(analysis.id) as path:
        assert path.read_bytes() == data
    assert analyses.delete(analysis.id, "somebody") and stored_files() == []
    with pytest.raises(FileNotFoundError), analyses.claimed_upload(analysis.id):
        pytest.fail("The file is still there.")


def in_threads(app, count, work):
    """Run `work(index)` in `count` threads that start together, each with its own connection."""
    together = threading.Barrier(count)

    def run(index):
        together.wait()
        with app.app_context():
            return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_references_are_counted_when_many_come_and_go_at_once(app, face_jpeg, stored_files, monkeypatch):
    """Everybody sends the same picture and deletes it again, twice at once: no count is lost, no file stays."""
    save = Storage.save
    # slow, so that the transactions overlap
    monkeypatch.setattr(Storage, "save", lambda *arguments: time.sleep(0.01) or save(*arguments))
    ids = in_threads(app, 6, lambda index: submit(face_jpeg, f"visitor {index}").id)
    with app.app_context():
        assert references() == 6
    deleted = in_threads(app, 12, lambda index: analyses.delete(ids[index // 2], f"visitor {index // 2}"))
    assert sorted(deleted) == [False] * 6 + [True] * 6
    with app.app_context():
        assert references() is None and stored_files() == []


def test_an_upload_survives_the_deletion_of_its_twin_at_the_same_moment(app, face_jpeg, stored_files, monkeypatch):
    """While the last reference is being deleted somebody sends the same picture: the new file must not go with it."""
    delete = Storage.delete

    def send_again():
        with app.app_context():
            return submit(face_jpeg, "bob")

    with ThreadPoolExecutor(1) as pool:

        def delete_while_somebody_sends(storage, name):
            if name.startswith("uploads/"):
                sent.append(pool.submit(send_again))
                wait(sent, timeout=0.5)
            delete(storage, name)

        with app.app_context():
            first, sent = submit(face_jpeg, "alice").id, []
            monkeypatch.setattr(Storage, "delete", delete_while_somebody_sends)
            assert analyses.delete(first, "alice")
        sent[0].result()
    with app.app_context():
        assert references() == 1
        assert f"uploads/{hashlib.sha256(face_jpeg).hexdigest()}" in stored_files()


def test_the_detector_is_loaded_once_and_analyses_one_picture_at_a_time(app, face_jpeg, real_detector, monkeypatch):
    loads, inside, most = [], 0, 0
    detect = real_detector.detect

    def count(data, **how):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return detect(data, **how)

    monkeypatch.setattr(real_detector, "detect", count)
    monkeypatch.setattr(detector, "load_detector", lambda **how: loads.append(how) or time.sleep(0.01) or real_detector)
    app.extensions["detector"] = DetectorThread(threads=3)
    in_threads(app, 6, lambda index: submit(face_jpeg).id)
    assert (loads, most) == ([{"threads": 3}], 1)


def test_the_memory_of_large_pictures_is_released(tmp_path):
    """A worker that has analysed 40 megapixels for three visitors at once is not much larger than before."""
    script = f"""if True:
        import io, numpy, detector
        from concurrent.futures import ThreadPoolExecutor
        from webapp import create_app
        from webapp.analyses import submit
        app = create_app({{"INSTANCE_PATH": {str(tmp_path)!r}, "THREADS": 1, "JOBS": "off"}})
        def analyse_grey(side_px):
            picture = detector.media.encode_jpeg(numpy.full((side_px, side_px, 3), 99, numpy.uint8))
            with app.app_context():
                submit(io.BytesIO(picture), filename="grey.jpg", visitor="somebody")
        def size_mb():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1000
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(analyse_grey, [1000] * 3))
            before = size_mb()
            list(pool.map(analyse_grey, [6300] * 3))
            print(size_mb() - before)
    """
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 20


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("me.jpg", "me.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\face.png", "face.png"),
        ("a\x00b\x1b[31m\u202egpj.exe", "ab[31mgpj.exe"),
        ("two\n lines\t.png", "two lines .png"),
        ("Gesicht äöü 顔.png", "Gesicht äöü 顔.png"),
        ("folder/", "unnamed"),
        ("\u200b", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_a_name_is_cleaned_before_it_is_displayed(name, shown):
    assert analyses.clean_name(name) == shown


def test_a_long_name_keeps_both_ends():
    shown = analyses.clean_name("a" * 300 + ".jpeg")
    assert len(shown) == 120 and shown.startswith("aaa") and shown.endswith("a.jpeg") and "…" in shown
