import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.models.reference_scores import ReferenceScores
from detector.models.spec import FaceInput, ModelSpec
from detector.pictures.detect import MAX_FACES, PictureDetector, load_picture_detector
from detector.pictures.faces import crop_face, cut_square, resize
from detector.record import to_record, to_values
from detector.results import ModelError, Reason, UnreadableMedia, Verdict
from detector.verdicts import classify


class BrightnessEngine(Engine):
    """Replaces a network: the brighter a crop, the higher its logit; grey is neutral."""

    model_sha256 = "0" * 64

    def __init__(self, *, with_maps=True):
        self.spec = ModelSpec("brightness", FaceInput(64, 1.3), Calibration(0.1, 0.0, 0.2, 0.8))
        self.with_maps = with_maps
        self.seen = []

    def run(self, batch):
        self.seen.append(batch)
        maps = resize_all(batch.mean(-1), 4) - 127.5
        return maps.mean((1, 2)).astype(np.float32), maps.astype(np.float32) if self.with_maps else None


def resize_all(maps, size):
    return maps.reshape(len(maps), size, maps.shape[1] // size, size, maps.shape[2] // size).mean((2, 4))


@pytest.fixture
def engine():
    return BrightnessEngine()


@pytest.fixture
def detector(engine, finder):
    return PictureDetector(engine, finder)


def comparable(detection):
    return {name: value for name, value in to_record(detection).items() if name != "elapsed_ms"}


def lit(image, offset):
    return np.clip(image.astype(int) + offset, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "array", "read-only array", "mirrored twice"])
def test_every_kind_of_source_gives_the_same_detection(kind, portrait, tmp_path, picture_detector):
    buffer = io.BytesIO()
    Image.fromarray(portrait).save(buffer, "PNG")
    (tmp_path / "face.png").write_bytes(buffer.getvalue())
    sources = {
        "path": tmp_path / "face.png",
        "text": str(tmp_path / "face.png"),
        "bytes": buffer.getvalue(),
        "array": portrait.copy(),
        "read-only array": portrait,
        "mirrored twice": np.ascontiguousarray(portrait[:, ::-1])[:, ::-1],
    }
    expected = picture_detector.detect(portrait.copy())
    found = picture_detector.detect(sources[kind])
    assert comparable(found) == comparable(expected) and found.elapsed_ms > 0
    np.testing.assert_array_equal(found.image, portrait)
    np.testing.assert_array_equal(found.faces[0].heatmap, expected.faces[0].heatmap)


def test_the_values_of_a_detection_are_consistent(portrait, picture_detector):
    detection = picture_detector.detect(portrait)
    calibration = picture_detector.engine.spec.calibration
    (face,) = detection.faces
    assert detection.logit == face.logit and detection.probability == face.probability
    assert 0 <= detection.probability == calibration.probability(detection.logit) <= 1
    assert detection.verdict is classify(detection.probability, calibration)
    assert (detection.verdict is Verdict.INCONCLUSIVE) == (detection.reasons == (Reason.BETWEEN_THRESHOLDS,))
    assert face.heatmap.ndim == 2 and 0 <= face.heatmap.min() <= face.heatmap.max() <= 1
    assert (detection.width_px, detection.height_px, detection.media) == (512, 512, "image")
    x, y, w, h = face.box
    left, top, side, _ = face.crop_box
    assert left < x < x + w < left + side and top < y < y + h < top + side
    assert json.loads(json.dumps(to_record(detection), allow_nan=False)) == to_record(detection)


def test_the_network_s_input_is_the_square_around_the_face(detector, engine, portrait):
    (face,) = detector.detect(portrait).faces
    (batch,) = engine.seen
    x, y, side, _ = face.crop_box
    assert batch.shape == (1, 64, 64, 3) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[0], resize(portrait[y : y + side, x : x + side], 64, 64))


@pytest.mark.slow
def test_every_face_keeps_its_crop(detector, engine, portrait):
    group = np.concatenate([lit(portrait, -30), lit(portrait, 30)], axis=1)
    faces = detector.detect(group).faces
    (batch,) = engine.seen
    assert len(faces) == 2 and len({face.logit for face in faces}) == 2
    for face in faces:
        expected = crop_face(group, face.crop_box, 64)
        np.testing.assert_array_equal(face.crop, expected)
        assert any(np.array_equal(face.crop, crop) for crop in batch) and "crop=" not in repr(face)


def test_a_picture_is_scored_once_and_each_square_cut_once(detector, engine, portrait, monkeypatch):
    cut = []
    monkeypatch.setattr(
        "detector.pictures.faces.cut_square", lambda image, square: cut.append(square) or cut_square(image, square)
    )
    (face,) = detector.detect(portrait).faces
    assert len(engine.seen) == 1 and len(cut) == len(set(cut)) == 2  # the network's crop and the face for the gate
    assert face.crop_box in cut


@pytest.mark.parametrize(
    ("offset", "verdict", "reasons"),
    [
        (-60, Verdict.REAL, ()),
        (60, Verdict.DEEPFAKE, ()),
        (None, Verdict.INCONCLUSIVE, (Reason.BETWEEN_THRESHOLDS,)),
    ],
)
def test_three_verdicts(offset, verdict, reasons, detector, portrait):
    if offset is None:
        offset = -round(detector.detect(portrait).logit)
    detection = detector.detect(lit(portrait, offset))
    assert (detection.verdict, detection.reasons) == (verdict, reasons)


@pytest.mark.parametrize("size", [(200, 300), (32, 32), (1, 1), (100, 4000), (4000, 100)], ids=str)
@pytest.mark.parametrize("level", [0, 255])
def test_without_a_face_the_whole_picture_is_scored_without_a_verdict(size, level, detector):
    detection = detector.detect(np.full((*size, 3), level, np.uint8))
    assert detection.verdict is Verdict.INCONCLUSIVE and detection.reasons == (Reason.NO_FACE,)
    assert detection.faces == () and detection.logit == pytest.approx(level - 127.5)


@pytest.mark.parametrize(("side", "reasons"), [(512, ()), (200, ()), (130, (Reason.TOO_SMALL,))])
def test_a_face_under_40_px_is_scored_without_a_verdict(side, reasons, detector, portrait):
    detection = detector.detect(lit(resize(portrait, side, side), -90))
    assert detection.reasons == reasons and len(detection.faces) == 1
    assert detection.verdict is (Verdict.INCONCLUSIVE if reasons else Verdict.REAL)
    assert (max(detection.faces[0].box[2:]) < 40) == bool(reasons)


@pytest.mark.parametrize("suspicious", [0, 1, 2])
def test_the_most_suspicious_face_decides_whatever_its_size(suspicious, detector, portrait):
    group = np.zeros((512, 1200, 3), np.uint8)
    for i, (left, side) in enumerate([(0, 512), (512, 400), (912, 288)]):
        group[:side, left : left + side] = lit(resize(portrait, side, side), 70 if i == suspicious else -40 - 30 * i)
    detection = detector.detect(group)
    assert len(detection.faces) == 3 and detection.verdict is Verdict.DEEPFAKE
    logits = [face.logit for face in detection.faces]
    assert logits == sorted(logits, reverse=True) and detection.logit == logits[0]
    assert detection.probability == max(face.probability for face in detection.faces)
    x, y, w, h = detection.faces[0].box
    assert (x > 512) + (x > 912) == suspicious
    for face in detection.faces:  # all attributes belong to the same face
        (x, y, w, h), (left, top, side, _) = face.box, face.crop_box
        assert left <= x < x + w <= left + side and top <= y < y + h <= top + side
        assert np.all(face.landmarks > [x, y]) and np.all(face.landmarks < [x + w, y + h])
        assert (face.heatmap.mean() > 0.5) == (face is detection.faces[0])


def test_in_a_crowd_the_largest_faces_are_scored(detector, engine, portrait):
    crowd = np.tile(resize(portrait[:400, 50:450], 120, 120), (9, 8, 1))
    assert len(detector.detect(crowd).faces) == len(engine.seen[0]) == MAX_FACES


def test_a_tight_crop_is_taken_whole(detector, portrait):
    crop = portrait[55:185, 175:280]
    (face,) = detector.detect(crop).faces
    left, top, side, _ = face.crop_box
    assert side == 130 and top == 0 and left == (105 - 130) // 2


def test_a_network_without_a_class_map_has_no_heat(finder, portrait):
    (face,) = PictureDetector(BrightnessEngine(with_maps=False), finder).detect(portrait).faces
    assert face.heatmap is None


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((0, 50, 3), np.uint8),
    ],
    ids=["grey", "with alpha", "floats", "empty"],
)
def test_an_array_of_another_kind_is_refused_with_its_type(array, detector):
    with pytest.raises(UnreadableMedia, match=r"must be \(H, W, 3\) uint8 RGB; this one is"):
        detector.detect(array)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I;16"])
def test_files_of_every_colour_mode_are_read(mode, portrait, tmp_path, picture_detector):
    suffix = ".tif" if mode == "CMYK" else ".png"
    if mode == "I;16":
        picture = Image.fromarray(portrait[..., 1].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(portrait).convert(mode)
    picture.save(tmp_path / f"face{suffix}")
    detection = picture_detector.detect(tmp_path / f"face{suffix}")
    assert 0 <= detection.probability <= 1 and detection.image.shape == (512, 512, 3)
    assert len(detection.faces) == 1 or mode == "1"  # black and white dots may hide it


@pytest.mark.slow
def test_threads_share_a_detector(portrait):
    shared = load_picture_detector(threads=2)
    group = np.tile(resize(portrait, 200, 200), (3, 3, 1))  # needs the fine pass, which is compiled at first use
    pictures = [portrait, group, lit(portrait, 30), portrait[:, ::-1]] * 3
    with ThreadPoolExecutor(4) as pool:
        together = [comparable(detection) for detection in pool.map(shared.detect, pictures)]
    assert together == [comparable(shared.detect(picture)) for picture in pictures]


def test_a_face_that_is_too_small_does_not_decide(detector, portrait):
    group = np.zeros((512, 620, 3), np.uint8)
    group[:, :512], group[:108, 512:] = lit(portrait, -60), lit(resize(portrait, 108, 108), 70)
    detection = detector.detect(group)
    large, small = detection.faces
    assert large.logit < 0 < small.logit and detection.logit == large.logit and detection.verdict is Verdict.REAL


def held_out_scores(model_sha256="0" * 64):
    """A table in which every size scores differently: reals 0 or .3, fakes .7 or 1, the small faces the lower."""
    labels, large = np.arange(800) % 2, np.arange(800) >= 400
    return ReferenceScores.from_scores(
        labels=labels,
        probabilities=0.7 * labels + 0.3 * large,
        face_px=np.where(large, 120, 80),
        groups=np.arange(800),
        split="val",
        model_sha256=model_sha256,
    )


def test_a_verdict_comes_with_error_rates_for_its_face_size(engine, finder, portrait):
    """The size is that of the decisive face, here the smaller of two."""
    measured = PictureDetector(engine, finder, held_out_scores())
    group = np.zeros((512, 812, 3), np.uint8)
    group[:, :512], group[:300, 512:] = lit(portrait, -60), lit(resize(portrait, 300, 300), 60)
    detection = measured.detect(group)
    small, large = detection.faces
    assert small.size_px == max(small.box[2:]) < 96 < large.size_px and detection.verdict is Verdict.DEEPFAKE
    real, fake = detection.error_rates
    assert (real.kind, real.n, real.share, real.max_px) == ("real", 200, 0.0, 96)
    assert (fake.kind, fake.share) == ("fake", 1.0)
    assert to_record(detection)["error_rates"] == [to_values(real), to_values(fake)]
    assert json.loads(json.dumps(to_record(detection), allow_nan=False)) == to_record(detection)
    assert measured.detect(portrait).error_rates[0].min_px == 96


@pytest.mark.parametrize("picture", ["not measured", "no face", "too small"])
def test_without_a_usable_face_or_a_table_there_is_no_rate(picture, engine, finder, portrait):
    measured = PictureDetector(engine, finder, None if picture == "not measured" else held_out_scores())
    image = {"no face": np.zeros((200, 200, 3), np.uint8), "too small": resize(portrait, 130, 130)}.get(picture)
    detection = measured.detect(portrait if image is None else image)
    assert detection.error_rates == () and to_record(detection)["error_rates"] == []


@pytest.mark.slow
@pytest.mark.parametrize("engine_name", ["onnx", "keras"])
def test_only_the_table_of_the_same_model_is_used(engine_name, tmp_path, monkeypatch, engine):
    path = tmp_path / "face.reference_scores.json"
    monkeypatch.setattr("detector.pictures.detect.REFERENCE_SCORES_FILE", path)
    for name in ("FastEngine", "KerasEngine"):
        monkeypatch.setattr(f"detector.models.engines.{name}", lambda path, **settings: engine)
    assert load_picture_detector(engine=engine_name).reference_scores is None
    held_out_scores("f" * 64).write(path)
    assert load_picture_detector(engine=engine_name).reference_scores is None
    held_out_scores(engine.model_sha256).write(path)
    assert load_picture_detector(engine=engine_name).reference_scores.model_sha256 == engine.model_sha256
    path.write_text("half a ta")
    with pytest.raises(ModelError, match=r"face\.reference_scores\.json cannot be read"):
        load_picture_detector(engine=engine_name)
