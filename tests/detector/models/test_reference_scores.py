import json
from dataclasses import replace

import numpy as np
import pytest

from detector.models.reference_scores import MIN_IN_SIZE, MIN_PICTURES, ReferenceScores, read_reference_scores
from detector.results import HISTOGRAM_BIN_EDGES, ModelError

MODEL = "7" * 64


def table_of(labels, probabilities, face_px=120, groups=None):
    labels = np.asarray(labels)
    return ReferenceScores.from_scores(
        labels=labels,
        probabilities=np.broadcast_to(probabilities, labels.shape),
        face_px=np.broadcast_to(face_px, labels.shape),
        groups=np.arange(len(labels)) if groups is None else groups,
        split="val",
        model_sha256=MODEL,
    )


def many(n=1000, seed=0):
    """A table of n pictures of both kinds and all sizes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return table_of(labels, rng.beta(1 + 3 * labels, 4 - 3 * labels), rng.integers(60, 400, n), rng.integers(0, n, n))


def test_reals_count_when_they_score_as_high_and_fakes_when_as_low():
    labels = np.repeat([0, 1], 50)
    scores = np.concatenate([np.arange(50), 50 + np.arange(50)]) / 100
    real, fake = table_of(labels, scores).error_rates(0.48, 120)
    assert (real.kind, real.n, real.share) == ("real", 50, 2 / 50)  # .48 itself and .49
    assert (fake.kind, fake.n, fake.share) == ("fake", 50, 0.0)
    assert (real.low, real.high) == pytest.approx((0.0110, 0.1346), abs=1e-4)  # Wilson, 2 of 50
    assert (fake.low, fake.high) == pytest.approx((0, 0.0713), abs=1e-4)  # 0 of 50 is no certainty
    real, fake = table_of(labels, scores).error_rates(0.51, 120)
    assert (real.share, fake.share) == (0.0, 2 / 50)


def test_pictures_of_one_group_do_not_count_as_independent():
    labels, scores = np.repeat([0, 1], 200), np.repeat([0.1, 0.9, 0.1, 0.9], 100)
    (alone, _), (together, _) = (
        table_of(labels, scores, groups=groups).error_rates(0.9, 120)
        for groups in (np.arange(400), np.arange(400) // 10)
    )
    assert alone.share == together.share == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_score_between_two_stored_ones_never_gets_a_lower_rate():
    """Rounding may count one neighbour too many, but never too few."""
    rng = np.random.default_rng(0)
    exact, labels = rng.beta(0.3, 0.3, 400), np.repeat([0, 1], 200)
    table = table_of(labels, exact)
    for score in rng.beta(0.3, 0.3, 100):
        real, fake = table.error_rates(score, 120)
        assert real.share >= np.mean(exact[:200] >= score) and fake.share >= np.mean(exact[200:] <= score)
        assert real.share <= np.mean(exact[:200] >= score - 1e-4) and fake.share <= np.mean(exact[200:] <= score + 1e-4)


def test_the_histogram_counts_every_picture_where_it_scored():
    scores = np.concatenate([np.zeros(30), np.full(20, 0.3), np.full(25, 1.0), np.full(25, 0.97)])
    real, fake = table_of(np.repeat([0, 1], 50), scores).error_rates(0.5, 120)
    assert len(real.histogram) == len(HISTOGRAM_BIN_EDGES) - 1
    assert {HISTOGRAM_BIN_EDGES[i]: n for i, n in enumerate(real.histogram) if n} == {0: 30, 0.2: 20}
    assert {HISTOGRAM_BIN_EDGES[i]: n for i, n in enumerate(fake.histogram) if n} == {0.999: 25, 0.95: 25}


@pytest.mark.parametrize(
    ("counts", "edges"),
    [
        ([(100, 100)] * 4, [96, 160, 256]),
        ([(99, 100), (100, 100), (100, 100), (100, 100)], [160, 256]),
        ([(100, 100), (100, 100), (100, 100), (100, 99)], [96, 160]),
        ([(100, 100), (300, 99), (300, 1), (100, 500)], [96, 256]),
        ([(500, 99)] + [(0, 0)] * 3, []),
    ],
    ids=["enough", "few small reals", "few large fakes", "few in the middle", "one size"],
)
def test_sizes_with_too_few_pictures_join_their_neighbours(counts, edges):
    sizes_px = (95, 96, 255, 256)
    labels = np.concatenate([np.repeat([0, 1], pair) for pair in counts])
    table = table_of(labels, 0.5, np.repeat(sizes_px, [sum(pair) for pair in counts]))
    found = sorted({(size.min_px, size.max_px) for size in table.sizes}, key=lambda size: size[0])
    assert found == list(zip([0, *edges], [*edges, None], strict=True))
    assert sum(len(size.probabilities) for size in table.sizes) == len(labels)
    assert not edges or min(len(size.probabilities) for size in table.sizes) >= MIN_IN_SIZE


@pytest.mark.parametrize(
    ("face_px", "size"), [(1, (0, 96)), (95, (0, 96)), (96, (96, None)), (159, (96, None)), (5000, (96, None))]
)
def test_a_face_is_compared_with_faces_of_its_size(face_px, size):
    labels = np.tile([0, 1], 200)
    table = table_of(labels, np.repeat([0.2, 0.8], 200), np.repeat([80, 120], 200))
    real, fake = table.error_rates(0.5, face_px)
    assert (real.min_px, real.max_px) == (fake.min_px, fake.max_px) == size
    small = size == (0, 96)
    assert (real.n, real.share, fake.share) == (100, 0.0 if small else 1.0, 1.0 if small else 0.0)


def test_too_few_pictures_of_a_kind_give_no_rate():
    labels = np.repeat([0, 1], [MIN_PICTURES, MIN_PICTURES - 1])
    assert [rate.kind for rate in table_of(labels, 0.5).error_rates(0.5, 120)] == ["real"]
    assert table_of(labels[:5], 0.5).error_rates(0.5, 120) == ()
    assert table_of([], []).error_rates(0.5, 120) == ()


def test_pictures_without_a_face_are_left_out():
    labels, scores = np.repeat([0, 1], 60), np.tile([0.2, 0.9], 60)
    real, fake = table_of(labels, scores, np.tile([120, 0], 60)).error_rates(0.5, 120)
    assert (real.n, real.share, fake.n, fake.share) == (30, 0.0, 30, 1.0)


def test_what_is_written_is_read_back(tmp_path):
    table = many()
    table.write(tmp_path / "face.reference_scores.json")
    found = read_reference_scores(tmp_path / "face.reference_scores.json")
    assert (found.model_sha256, found.split) == (MODEL, "val")
    for score, face_px in [(0.001, 70), (0.4, 120), (0.9, 200), (1.0, 399)]:
        rates = found.error_rates(score, face_px)
        assert rates == table.error_rates(score, face_px) and len(rates) == 2


@pytest.mark.parametrize("unseen", [True, False])
def test_rates_say_whether_they_are_of_kinds_left_out(unseen, tmp_path):
    path = tmp_path / "face.reference_scores.json"
    replace(many(), unseen=unseen).write(path)
    found = read_reference_scores(path)
    assert found.unseen is unseen and {rate.unseen for rate in found.error_rates(0.5, 120)} == {unseen}


def test_a_table_of_an_earlier_version_is_of_known_collections(tmp_path):
    path = tmp_path / "face.reference_scores.json"
    many().write(path)
    table = json.loads(path.read_text())
    del table["unseen"]
    path.write_text(json.dumps(table))
    assert read_reference_scores(path).unseen is False


def test_the_table_is_small_and_names_no_group(tmp_path):
    n = 2000
    table = table_of(np.arange(n) % 2, np.linspace(0, 1, n), groups=[f"somebody{i}.mp4" for i in range(n)])
    table.write(tmp_path / "face.reference_scores.json")
    text = (tmp_path / "face.reference_scores.json").read_text()
    assert len(text) < 60_000 and "somebody" not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: [],
        lambda table: table | {"version": 0},
        lambda table: {key: value for key, value in table.items() if key != "sizes"},
        lambda table: table | {"sizes": [table["sizes"][0] | {"groups": [1]}]},
        lambda table: table | {"sizes": [table["sizes"][0] | {"kind": "other"}]},
        lambda table: table | {"sizes": [{"kind": "real"}]},
        lambda table: table | {"unseen": "yes"},
    ],
    ids=["a list", "version", "no sizes", "columns", "kind", "incomplete", "unseen"],
)
def test_a_damaged_table_is_refused_by_name(damage, tmp_path):
    path = tmp_path / "face.reference_scores.json"
    many().write(path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match=r"face\.reference_scores\.json cannot be read; delete it"):
        read_reference_scores(path)
    path.write_text("{")
    with pytest.raises(ModelError):
        read_reference_scores(path)
