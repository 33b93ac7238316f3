import numpy as np
import pytest

from detector.results import HISTOGRAM_BIN_EDGES
from detector.voices.features import mel_edges_hz
from webapp import drawings
from webapp.drawings import faces as faces_module
from webapp.drawings import over_time


def picture(*boxes, size=(600, 520)):
    faces = [{"box": box, "crop_box": box, "probability": 0.25} for box in boxes]
    return {"width_px": size[0], "height_px": size[1], "faces": faces}


def test_zones_cover_the_width():
    zones = drawings.zones(0.2, 0.9)
    assert (zones.real, zones.fake, zones.gap, zones.rest) == (20, 90, 70, 10)
    assert [(tick.text, tick.anchor) for tick in zones.ticks] == [("20%", "end"), ("90%", "start")]
    assert zones.real + zones.gap + zones.rest == 100


@pytest.mark.parametrize(
    ("probability", "zone", "edge"),
    [
        (0.0, "real", ""),
        (0.19, "real", "near the line to its right"),
        (0.2, "real", "near the line to its right"),
        (0.21, "inconclusive", "near the line to its left"),
        (0.5, "inconclusive", ""),
        (0.911, "deepfake", "near the line to its left"),
        (1.0, "deepfake", ""),
    ],
)
def test_a_band_stays_inside_its_zone(probability, zone, edge):
    found = drawings.band(probability, 0.2, 0.9)
    start = 100 / 3 * list(drawings.ZONE_TITLES).index(zone)
    assert (found.zone, found.edge) == (zone, edge)
    assert start - 0.01 <= found.x and found.x + found.width <= start + 100 / 3 + 0.01


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 1), (0, 1), (0.6, 0.4)])
def test_a_band_needs_no_room_between_the_lines(low, high):
    for probability in (0, 0.5, 1):
        found = drawings.band(probability, low, high)
        assert 0 <= found.x <= 100 - found.width


def test_a_higher_score_lies_further_right():
    places = [drawings.band(step / 200, 0.2, 0.9).x for step in range(201)]
    assert places == sorted(places) and len(set(places)) > 100


@pytest.mark.parametrize(("low", "high", "anchors"), [(0.01, 0.99, ["start", "end"]), (0.5, 0.4, ["end", "start"])])
def test_labels_near_the_edges_stay_inside_and_no_width_is_negative(low, high, anchors):
    zones = drawings.zones(low, high)
    assert [tick.anchor for tick in zones.ticks] == anchors and zones.gap >= 0


def test_the_only_face_has_no_number():
    (face,) = drawings.boxed_faces(picture((100, 200, 80, 80)))
    assert face.label is None and face.box == drawings.Box(100, 200, 80, 80)


BOXES = [(0, 0, 40, 40), (590, 0, 40, 500), (-20, 480, 30, 60), (300, 300, 90, 90)]


@pytest.mark.parametrize("size", [(600, 520), (6000, 5200)])
def test_numbers_and_boxes_stay_inside_the_picture_and_hide_no_face(size):
    scale = size[0] / 600
    faces = list(drawings.boxed_faces(picture(*(tuple(scale * value for value in box) for box in BOXES), size=size)))
    for face in faces:
        for shape in (face.box, face.label.plate):
            assert 0 <= shape.x <= size[0] - shape.width and 0 <= shape.y <= size[1] - shape.height
        assert face.label.plate.height == 26 * scale and face.label.text == str(face.number)
        others = [other.box for other in faces] + [other.label.plate for other in faces if other is not face]
        assert not any(faces_module._overlap(face.label.plate, other) for other in others)
        assert face.label.text_x == pytest.approx(face.label.plate.x + face.label.plate.width / 2)


def test_a_number_without_room_lies_in_the_corner_of_its_own_box():
    faces = list(drawings.boxed_faces(picture((0, 0, 600, 520), (250, 200, 50, 50))))
    assert (faces[1].number, faces[1].label.plate.x, faces[1].label.plate.y) == (1, 0, 0)


def test_of_several_faces_the_most_suspicious_is_drawn_last():
    faces = list(drawings.boxed_faces(picture((0, 100, 9, 9), (500, 100, 9, 9))))
    assert [(face.number, face.label.text, face.label.side) for face in faces] == [(2, "2", "left"), (1, "1", "left")]


def test_the_timeline_of_a_video():
    frames = [
        {"timestamp_s": time_s, "probability": probability, "verdict": "real"}
        for time_s, probability in ((0, 0), (5, 0.5), (10, 1))
    ]
    record = {"duration_s": 10, "frames_seen": 4, "shot_changes_s": [2.5]}
    drawing = drawings.timeline({"frames": frames}, record, [0.25])
    assert [bar.x for bar in drawing.bars] == [0, 50, 75]  # the last one stays inside
    assert [bar.height for bar in drawing.bars] == [2, 48, 96] and drawing.bars[2].y == 8
    assert (drawing.threshold_ys, drawing.cut_xs) == ((80,), (25,))
    assert [tick.text for tick in drawing.time_ticks] == ["0:00", "0:05", "0:10"]
    assert drawing.share_ys == (("0%", 104), ("50%", 56), ("100%", 8))
    assert drawing.bars[1].title == "0:05: 50%" and "over 99.9%" in drawing.label and "0:02" in drawing.label


def test_no_frame_of_a_timeline_covers_the_next():
    frames = [{"timestamp_s": time_s, "probability": 0.5, "verdict": "real"} for time_s in (0, 5, 9.5, 10)]
    record = {"duration_s": 10, "frames_seen": 5, "shot_changes_s": []}
    bars = drawings.timeline({"frames": frames}, record, []).bars
    assert [bar.x for bar in bars] == [0, 40, 60, 80] and [bar.time_s for bar in bars] == [0, 5, 9.5, 10]
    assert all(bar.x + bar.width < after.x for bar, after in zip(bars, bars[1:], strict=False))


def test_a_long_timeline_draws_the_highest_frames_and_lists_all():
    frames = [
        {"timestamp_s": second, "probability": 0.9 if second in (7, 2_000) else 0.2, "verdict": "real"}
        for second in range(2_400)
    ]
    record = {"duration_s": 2_400, "frames_seen": 2_400, "shot_changes_s": []}
    drawing = drawings.timeline({"frames": frames}, record, [])
    bars = drawing.bars
    assert (len(bars), len(drawing.moments)) == (240, 2_400) and "2400 frames" in drawing.label
    assert [bar.time_s for bar in bars if bar.height > 80] == [7, 2_000]
    assert all(bar.x + bar.width < after.x for bar, after in zip(bars, bars[1:], strict=False))


def test_a_video_without_duration_is_drawn():
    frame = {"timestamp_s": 0, "probability": 0.5, "verdict": "real"}
    record = {"duration_s": 0, "frames_seen": 0, "shot_changes_s": []}
    assert drawings.timeline({"frames": [frame]}, record, []).bars[0].x == 0


def test_votes_follow_each_other():
    votes = drawings.votes({"votes": {"real": 0.25, "deepfake": 0.75}})
    assert [(vote.verdict, vote.x, vote.width) for vote in votes] == [
        ("deepfake", 0, 75),
        ("inconclusive", 75, 0),
        ("real", 75, 25),
    ]


def test_the_bars_of_overlapping_segments_meet_in_the_middle_of_what_they_share():
    times = [(0, 2.5), (1.2, 3.7), (2.4, 4.9), (6, 8.5)]  # a pause follows the third
    segments = [{"start_s": start, "end_s": end, "probability": 0.5} for start, end in times]
    drawing = drawings.segments({"duration_s": 10, "segments": segments}, [0.5])
    ends = [(bar.x, round(bar.x + bar.width, 2)) for bar in drawing.bars]
    assert ends == [(0, 18.5), (18.5, 30.5), (30.5, 49), (60, 85)]
    assert (drawing.bars[0].height, drawing.bars[0].y, drawing.threshold_ys) == (32, 38, (38,))
    assert (drawing.bars[1].title, drawing.bars[1].time_s) == ("0:01.2 to 0:03.7: 50%", 1.2)
    alone = drawings.segments({"duration_s": 2, "segments": [segments[0] | {"end_s": 1}]}, [])
    assert (alone.bars[0].x, alone.bars[0].width) == (0, 50)


@pytest.mark.parametrize("duration_s", [0.001, 0.9, 3, 10, 61.5, 599, 3600, 40_000])
def test_a_time_axis_has_few_round_labels(duration_s):
    ticks = over_time.time_ticks(duration_s)
    assert (ticks[0].x, ticks[0].text, ticks[0].anchor) == (0, "0:00", "start")
    assert len(ticks) <= over_time.MOST_TIMES + 1 and all(tick.x <= 100 for tick in ticks)


def test_frequencies_stand_where_the_spectrogram_has_them():
    bands = 80
    middles_hz = mel_edges_hz(bands)[1:-1]
    for words, y in over_time.pitch_ticks():
        hz = float(words.removesuffix("kHz").removesuffix("Hz")) * (1000 if "kHz" in words else 1)
        assert abs((100 - y) / 100 * bands - np.searchsorted(middles_hz, hz)) < 1.5, words


def test_times_to_a_tenth():
    assert [drawings.format_tenths(seconds) for seconds in (0, 7.5, 67.25)] == ["0:00.0", "0:07.5", "1:07.2"]


def test_the_curves_of_a_deletion_check():
    check = {"shares": [0, 0.25, 0.5], "logits": [2, 0, -2], "random_logits": [2, 2, 1]}
    drawing = drawings.deletion_curves(check)
    assert {curve.kind: curve.points for curve in drawing.curves} == {
        "marked": "0.0,0.0 50.0,50.0 100.0,100.0",
        "elsewhere": "0.0,0.0 50.0,0.0 100.0,25.0",
    }
    assert drawing.end == "50% blurred" and "logit -2.0" in drawing.label


def test_the_rows_of_the_robustness_test():
    scores = [
        {"name": "stored", "verdict": "real", "probability": 0.1},
        {"name": "half", "verdict": "deepfake", "probability": 0.9},
    ]
    drawing = drawings.robustness({"scores": scores}, 0.2, 0.8)
    assert drawing.height == 54 and [(row.x, row.y) for row in drawing.rows] == [(10, 13.5), (90, 40.5)]
    assert [tick.anchor for tick in drawing.zones.ticks] == ["middle", "middle"]


def test_positions_among_the_histogram_bins():
    positions = [drawings.histogram_position(edge) for edge in HISTOGRAM_BIN_EDGES]
    assert positions == pytest.approx(range(len(HISTOGRAM_BIN_EDGES)))
    assert drawings.histogram_position(0.03) == pytest.approx(5 + 1 / 3)
    assert drawings.histogram_position(0.9995) == pytest.approx(len(HISTOGRAM_BIN_EDGES) - 1.5)


def test_histograms_count_what_is_at_least_as_wrong():
    counts = [10] * (len(HISTOGRAM_BIN_EDGES) - 1)
    rates = [{"kind": kind, "n": 200, "histogram": counts} for kind in ("real", "fake")]
    drawing = drawings.histograms(rates, 0.5, ["real"])
    reals, fakes = drawing.histograms
    assert (drawing.marker, drawing.label_x, drawing.label_anchor) == (50, "100%", "end")
    assert [bar.counted is not None for bar in reals.bars] == [False] * 10 + [True] * 10
    assert all(bar.counted is None for bar in fakes.bars)
    assert {(bar.y, bar.height) for bar in reals.bars} == {(0, 46)}
    assert [tick.text for tick in drawing.ticks] == ["1%", "10%", "50%", "90%", "99%"]
    fakes = drawings.histograms(rates, 0.5, ["fake"]).histograms[1]
    assert [bar.counted is not None for bar in fakes.bars] == [True] * 10 + [False] * 10
