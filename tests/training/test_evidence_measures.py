"""Measurements of evidence on a few pictures and on results made by hand."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from detector import metrics
from detector.models.calibration import Calibration
from detector.results import Reason, Verdict
from detector.verdicts import classify
from scripts import measure_evidence as command
from training import evidence_measures
from training.evidence_measures import (
    DOUBTS,
    FACE_DEGRADATIONS,
    RANGES,
    Sample,
    cut_sample,
    degrade_all,
    doubts_about,
    format_exclusions,
    format_separation,
    print_crowds,
    sample_evenly,
)
from training.manifests import Example

CALIBRATION = Calibration(1.0, 0.0, 0.2, 0.8)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 50)
        yield


@dataclass(frozen=True)
class Score:
    logit: float

    @property
    def verdict(self):
        return classify(CALIBRATION.probability(self.logit), CALIBRATION)


@dataclass(frozen=True)
class Result:
    """What doubts are derived from, as in RobustnessResult."""

    scores: tuple[Score, ...]

    @property
    def spread(self):
        logits = [score.logit for score in self.scores]
        return max(logits) - min(logits)

    @property
    def is_robust(self):
        return not {Verdict.REAL, Verdict.DEEPFAKE} <= {score.verdict for score in self.scores}


def example(source, label, number=0):
    return Example(Path(f"{source}{number}.jpg"), label, source, "x", f"{source}{number}", "train")


def doubts(*logits):
    return dict(zip(DOUBTS, doubts_about(Result(tuple(map(Score, logits))), CALIBRATION), strict=True))


def test_sources_and_labels_are_drawn_in_turn():
    examples = [example("large", 0, n) for n in range(50)] + [example("small", 1, n) for n in range(2)]
    drawn = sample_evenly(examples, 6)
    assert [e.source for e in drawn].count("small") == 2 and len(drawn) == len(set(drawn)) == 6
    assert sample_evenly(examples, 100) != examples and len(sample_evenly(examples, 100)) == 52


def test_doubt_grows_towards_the_threshold_of_either_verdict():
    edge = np.log(4)  # log-odds of .8
    assert doubts(edge + 1)["distance to the threshold alone"] == pytest.approx(-1)
    assert doubts(-edge - 2)["distance to the threshold alone"] == pytest.approx(-2)
    assert doubts(-edge - 2, -edge - 0.5)["distance in the worst degradation"] == pytest.approx(-0.5)


def test_a_flip_is_also_a_lost_verdict_but_not_the_reverse():
    flipped, lost, kept = doubts(3, -3), doubts(3, 0), doubts(3, 4)
    names = ("flips between real and deepfake", "is lost in a degradation")
    assert [tuple(found[name] for name in names) for found in (flipped, lost, kept)] == [
        (True, True), (False, True), (False, False)
    ]  # fmt: skip


def test_exclusions_are_counted_by_reason():
    reason = next(iter(Reason))
    share, why = format_exclusions([(reason,), (), (), (reason,)], ["a", "b", "c", "d"])
    assert share.startswith("0.500 (") and why == f"{reason} 2"


def test_separation_needs_both_labels():
    labels, logits, groups = np.array([0, 0, 1, 1]), np.array([-3.0, -2.0, 2.0, 0.0]), np.arange(4)
    assert format_separation(labels, logits, groups, CALIBRATION)[1:] == ("0.000", "0.000", "0.250")
    assert set(format_separation(labels[:2], logits[:2], groups[:2], CALIBRATION)) == {"-"}


def test_a_crowd_raises_the_chance_of_a_false_alarm(capsys):
    print_crowds([0.01, 0.02])
    rows = capsys.readouterr().out.splitlines()
    assert "| 1 | 0.01 | 0.02 |" in rows and "| 64 | 0.47 | 0.73 |" in rows


def test_every_face_is_degraded_measured_and_scored(portrait, finder, picture_detector):
    engine = picture_detector.engine
    sample = Sample(example("a", 0), portrait, finder.find_faces(portrait)[0])
    crop, box = cut_sample(sample, engine)
    assert crop.shape == (engine.spec.face.size_px,) * 2 + (3,) and box[:2].min() >= 0
    found = {degraded.name: degraded for degraded in degrade_all([sample], engine)}
    assert set(found) == {name for ways in FACE_DEGRADATIONS.values() for name in ways}
    stored = picture_detector.detect(portrait).faces[0].logit
    assert found["stored"].logits[0] == pytest.approx(stored, abs=0.01) and found["stored"].reasons == [()]
    dark = found["7 stops darker"]
    assert dark.measures["brightness"][0] < found["stored"].measures["brightness"][0] / 4 and dark.reasons[0]
    assert set(found["stored"].measures) == set(RANGES)


def test_the_command_runs_the_requested_measurements(monkeypatch, picture_detector, tmp_path):
    ran, splits = [], []

    def read_split(manifest, split):
        splits.append(split)
        return [example("a", 0)]

    monkeypatch.setattr(evidence_measures, "load_picture_detector", lambda: picture_detector)
    monkeypatch.setattr(evidence_measures, "read_split", read_split)
    monkeypatch.setattr(evidence_measures, "find_samples", lambda examples: examples)
    monkeypatch.setattr(evidence_measures, "print_quality_gate", lambda *_: ran.append("quality_gate"))
    monkeypatch.setattr(evidence_measures, "print_explanations", lambda method, *_: ran.append(method))
    monkeypatch.setattr(evidence_measures, "print_robustness", lambda *_: ran.append("robustness"))
    monkeypatch.setattr(evidence_measures.cv2, "setNumThreads", lambda count: None)
    command.main(["--only", "robustness", "lime"])
    command.main(["--split", "tune"])
    assert splits == ["val", "tune"]  # by default pictures that no part of the network has learned from
    assert ran == ["lime", "robustness", "quality_gate", "class_map", "grad_cam", "lime", "robustness"]
    with pytest.raises(SystemExit):
        command.main(["--only", "weather"])
