import numpy as np
import pytest

from detector.models.calibration import Calibration
from detector.pictures.faces import resize
from detector.results import Face, Reason, Verdict
from detector.videos import tracks
from detector.videos.tracks import MAX_MISSED_FRAMES, STRONGEST_FRAMES, Tracker, robust_mean

CALIBRATION = Calibration(1.0, 0.0, 0.2, 0.8)
SIDE_PX = 80


@pytest.fixture(scope="module")
def people(portrait):
    """Return a face, a green upside-down stranger, and mixtures; 0.6 has 60% of the stranger."""
    her = resize(portrait[30:230, 130:330], SIDE_PX, SIDE_PX)
    stranger = her[::-1, :, [1, 0, 2]] // 2 + 90
    mixed = {part: (her * (1 - part) + stranger * part).astype(np.uint8) for part in (0.2, 0.4, 0.6, 0.8)}
    return {"her": her, "stranger": stranger, **mixed}


class Film:
    """Passes frames with pasted faces to a tracker, one a second."""

    def __init__(self, people):
        self.people = people
        self.tracker = Tracker(CALIBRATION, crop_size_px=64)
        self.background = 128

    def show(self, *faces):
        """Add a frame; each face is (who, x, y, logit) and optionally its scale."""
        frame = np.full((270, 480, 3), self.background, np.uint8)
        found = []
        for who, x, y, logit, *scale in faces:
            side = round(SIDE_PX * (scale[0] if scale else 1))
            frame[y : y + side, x : x + side] = resize(self.people[who], side, side)
            box = (x + side // 8, y + side // 8, side * 3 // 4, side * 3 // 4)
            probability = CALIBRATION.probability(logit)
            heat = np.full((4, 4), probability)
            found.append(Face(box, None, 0.9, (x, y, side, side), logit, probability, heatmap=heat))
        self.tracker.add(float(self.tracker.frames_seen), frame, found)

    def tracks(self):
        return [([frame.logit for frame in track.frames], track) for track in self.tracker.tracks()]


@pytest.fixture
def film(people):
    return Film(people)


def test_a_face_that_stays_or_moves_is_one_track(film):
    for i, (x, y) in enumerate([(20, 20), (30, 25), (50, 30), (250, 100), (380, 10), (20, 150)]):
        film.show(("her", x, y, float(i)))
    ((logits, track),) = film.tracks()
    assert logits == [0, 1, 2, 3, 4, 5]
    assert [frame.timestamp_s for frame in track.frames] == [frame.frame_index for frame in track.frames] == logits
    assert track.frames[3].box == (260, 110, 60, 60)


def test_two_people_are_distinguished_even_if_they_change_places(film):
    places = [(20, 300), (40, 290), (300, 20), (290, 30), (20, 300)]
    for her_x, stranger_x in places:
        film.show(("stranger", stranger_x, 60, -3.0), ("her", her_x, 60, 3.0))
    (hers, her), (strangers, _) = film.tracks()
    assert hers == [3.0] * 5 and strangers == [-3.0] * 5  # the more suspicious first
    assert [frame.box[0] for frame in her.frames] == [x + 10 for x, _ in places]


def test_similar_faces_are_distinguished_by_their_place(film):
    for i in range(4):
        twins = [("her", 20, 60, -3.0), ("her", 300, 60, 3.0)]
        film.show(*(twins if i % 2 else twins[::-1]))
    assert [logits for logits, _ in film.tracks()] == [[3.0] * 4, [-3.0] * 4]


@pytest.mark.parametrize(("x", "count"), [(110, 1), (300, 2)], ids=["at its place", "elsewhere"])
def test_a_face_that_changed_much_is_recognised_only_at_its_place(x, count, film):
    film.show(("her", 100, 60, 0.0))
    film.show((0.6, x, 60, 0.0))
    assert len(film.tracks()) == count


def test_a_face_may_change_completely_in_small_steps(film):
    for i, who in enumerate(["her", 0.2, 0.4, 0.6, 0.8, "stranger"]):
        film.show((who, 20 + 70 * i, 60, 0.0))
    assert len(film.tracks()) == 1


def test_another_face_at_the_same_place_is_another_track(film):
    for who, logit in [("her", 1.0)] * 3 + [("stranger", 2.0)] * 3:
        film.show((who, 100, 60, logit))
    assert [logits for logits, _ in film.tracks()] == [[2.0] * 3, [1.0] * 3] and film.tracker.shot_changes_s == []


def test_a_suddenly_far_larger_face_is_another_track(film):
    for scale in (0.5, 0.6, 0.5, 2.5, 2.5, 2.5):
        film.show(("her", 100, 60, 0.0, scale))
    assert [len(logits) for logits, _ in film.tracks()] == [3, 3]


@pytest.mark.parametrize(("missed", "count"), [(1, 1), (MAX_MISSED_FRAMES, 1), (MAX_MISSED_FRAMES + 1, 2)])
def test_a_face_may_be_missing_for_some_frames(missed, count, film):
    for frames in (3, -missed, 3):
        for _ in range(abs(frames)):
            film.show(*[("her", 100, 60, 0.0)] * (frames > 0))
    assert len(film.tracks()) == count


def test_a_shot_change_ends_all_tracks(film):
    for level in (128, 128, 128, 30, 30, 30):
        film.background = level
        film.show(("her", 100, 60, 1.0), ("stranger", 300, 60, -1.0))
    assert film.tracker.shot_changes_s == [3.0] and film.tracker.frames_seen == 6
    assert sorted(logits for logits, _ in film.tracks()) == [[-1.0] * 3] * 2 + [[1.0] * 3] * 2


def test_slow_changes_of_light_and_place_are_no_shot_change(portrait):
    tracker = Tracker(CALIBRATION, crop_size_px=64)
    for i in range(12):
        view = portrait[4 * i : 400 + 4 * i, 100 - 8 * i : 500 - 8 * i].astype(int) + 3 * i
        tracker.add(float(i), np.clip(view, 0, 255).astype(np.uint8), [])
    assert tracker.shot_changes_s == []


def test_a_track_has_the_robust_mean_and_the_votes_of_its_frames(film):
    for logit in (3.0, 3.0, -90.0, 0.0, 3.0, 3.2, -2.0, 3.0):
        film.show(("her", 100, 60, logit))
    ((_, track),) = film.tracks()
    assert track.logit == pytest.approx(2.25) and track.probability == CALIBRATION.probability(2.25)
    assert track.verdict is Verdict.DEEPFAKE and track.reasons == ()
    assert track.votes == {Verdict.DEEPFAKE: 5 / 8, Verdict.REAL: 2 / 8, Verdict.INCONCLUSIVE: 1 / 8}
    assert [frame.verdict for frame in track.frames[2:4]] == [Verdict.REAL, Verdict.INCONCLUSIVE]


@pytest.mark.parametrize(
    ("frames", "logit", "verdict", "reasons"),
    [
        (2, 9.0, Verdict.INCONCLUSIVE, (Reason.TOO_FEW_FRAMES,)),
        (2, -9.0, Verdict.INCONCLUSIVE, (Reason.TOO_FEW_FRAMES,)),
        (3, 9.0, Verdict.DEEPFAKE, ()),
        (3, -9.0, Verdict.REAL, ()),
        (3, 0.0, Verdict.INCONCLUSIVE, (Reason.BETWEEN_THRESHOLDS,)),
    ],
)
def test_fewer_than_three_frames_are_inconclusive(frames, logit, verdict, reasons, film):
    for _ in range(frames):
        film.show(("her", 100, 60, logit))
    ((_, track),) = film.tracks()
    assert (track.verdict, track.reasons) == (verdict, reasons)


def test_tracks_with_too_few_frames_come_last(film):
    for i in range(4):
        film.show(("her", 20, 60, -1.0), *[("stranger", 300, 60, 9.0)] * (i < 2))
    assert [logits for logits, _ in film.tracks()] == [[-1.0] * 4, [9.0] * 2]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [([4], 4), ([1, 2], 1.5), ([9, 1, 2], 2), ([-50, 1, 3, 99], 2), ([0, 0, 0, 1, 1, 8], 0.5), (range(101), 50)],
)
def test_the_robust_mean_leaves_out_both_ends(logits, expected):
    assert robust_mean(np.array(logits, float)) == pytest.approx(expected)


def test_only_the_strongest_frames_keep_their_pixels(film, people):
    logits = [float(value) for value in (1, 7, 3, 9, 2, 8, 0, 6)]
    for logit in logits:
        film.show(("her", 100, 60, logit))
    ((_, track),) = film.tracks()
    kept = [frame for frame in track.frames if frame.crop is not None]
    assert sorted(frame.logit for frame in kept) == [6, 7, 8, 9] and len(kept) == STRONGEST_FRAMES
    assert [frame.logit for frame in track.frames] == logits
    for frame in track.frames:
        assert (frame.heatmap is None) == (frame.crop is None)
    np.testing.assert_array_equal(kept[0].crop, resize(people["her"], 64, 64))
    assert kept[0].heatmap[0, 0] == kept[0].probability


def test_the_most_suspicious_of_many_tracks_are_kept(film, monkeypatch):
    monkeypatch.setattr(tracks, "MAX_TRACKS", 3)
    for number, (frames, logit) in enumerate([(3, 1.0), (1, 9.0), (3, 4.0), (3, -2.0), (3, 3.0)]):
        film.background = 250 - 50 * number
        for _ in range(frames):
            film.show(("her", 100, 60, logit))
    assert [logits[0] for logits, _ in film.tracks()] == [4.0, 3.0, 1.0]
