"""Detections as versioned JSON values, for databases, evidence bundles and the command line.

A record holds numbers and text, never pixels, sound or spectrograms. `to_record` writes one, `from_record` restores the
detection, and `upgrade` brings records of older versions to the present one. The evidence for a picture's verdict
follows the same path: `evidence_to_record` and `restore_evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from enum import StrEnum
from typing import Any, get_type_hints

import numpy as np
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from detector.evidence import DeletionCheck, Explanation, Region, RobustnessResult, robustness_sentence
from detector.provenance.findings import Finding, Provenance
from detector.results import (
    Detection,
    Face,
    PictureDetection,
    RecordError,
    TrackFrame,
    VideoDetection,
    VoiceDetection,
)

RECORD_VERSION = 3
HEATMAP_DIGITS = 4
MAX_REPORTED_ERRORS = 3
MAX_HEATMAP_VALUES = 1024  # larger heat maps, such as LIME's of every pixel, belong in a picture beside the record
DETECTION_CLASSES: dict[str, type[Detection]] = {
    kind.media: kind for kind in (PictureDetection, VideoDetection, VoiceDetection)
}
_ARRAY_TYPES = (np.ndarray, np.ndarray | None)
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
_NO_SPECTROGRAM = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class CheckedExplanation:
    """An explanation of the first face's score, with the result of its deletion check.

    Attributes:
        method: a name of `detector.evidence.EXPLANATION_METHODS`, such as "class_map".
        heatmap: (h, w) float32 in [0, 1] over the face's crop box, 1 = evidence of a fake, .5 = neutral; None where
            the record leaves it out.
        regions: the strongest regions, in pixels of the crop.
        sentence: the same in words.
        size_px: side of the crop.
        check: the deletion check; None if it has not been run.
    """

    method: str
    heatmap: np.ndarray | None = field(repr=False)
    regions: tuple[Region, ...]
    sentence: str
    size_px: int
    check: DeletionCheck | None = None

    @classmethod
    def of(cls, explanation: Explanation, *, size_px: int, check: DeletionCheck | None = None) -> CheckedExplanation:
        """Combine an explanation of a crop (size_px, size_px) with its check."""
        return cls(explanation.method, explanation.heatmap, explanation.regions, explanation.sentence, size_px, check)


@dataclass(frozen=True, eq=False)
class RecordedEvidence:
    """The evidence that a picture's record holds.

    Attributes:
        explanations: of the first face, the class map first.
        robustness: None if there was no face to test.
    """

    explanations: tuple[CheckedExplanation, ...] = ()
    robustness: RobustnessResult | None = None


def to_record(detection: Detection) -> dict[str, Any]:
    """Return a detection as JSON values of the present version, without pixels, sound and heat maps."""
    return {"record_version": RECORD_VERSION, **to_values(detection)}


def from_record(record: Mapping[str, Any], *, image: np.ndarray | None = None) -> Detection:
    """Restore a detection from a record of any version.

    Arrays that the record only mentions come back empty, so that `to_record` writes the same record again.

    Args:
        record: as `to_record` returns it, with or without evidence. The heat maps of a picture's faces come from its
            "heatmaps".
        image: (H, W, 3) uint8 RGB, the upright picture; None leaves an array without pixels.

    Raises:
        RecordError: the record is damaged, or newer than this version of the detector.
    """
    record = upgrade(record)
    kind = DETECTION_CLASSES.get(str(record.get("media")))
    if kind is None:
        raise RecordError(f"The record is of an unknown medium: {record.get('media')!r:.80}.")
    with _damage_reported():
        if kind is PictureDetection:
            faces = record["faces"]
            heatmaps = record.get("heatmaps") or [None] * len(faces)
            faces = [{**face, "heatmap": heatmap} for face, heatmap in zip(faces, heatmaps, strict=True)]
            record = {**record, "faces": faces, "image": _NO_PIXELS if image is None else image}
        return _converter.structure(record, kind)


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a record of any version, with or without evidence, to the present version.

    Args:
        record: a record; one of the present version is returned as it is.

    Raises:
        RecordError: the record is damaged, or newer than this version of the detector.
    """
    if not isinstance(record, Mapping):
        raise RecordError(f"A record is a JSON object, not {type(record).__name__}.")
    version = record.get("record_version", 1)
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        raise RecordError(
            f"The record has version {version!r:.20}; this version of the detector reads versions 1 to "
            f"{RECORD_VERSION}. A newer detector may be needed."
        )
    if version == RECORD_VERSION:
        return record if isinstance(record, dict) else dict(record)
    with _damage_reported():
        changed = _upgrade_from_1(record) if version == 1 else dict(record)
        return {**upgrade_error_rates(changed), "record_version": RECORD_VERSION}


def upgrade_error_rates(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a detection of version 1 or 2 with error rates as of version 3.

    Every rate of those versions was measured on the collections that the model was trained on.

    Raises:
        TypeError: the error rates are no list of objects.
    """
    changed = _with_known_rates(values)
    if changed.get("sound"):
        changed["sound"] = _with_known_rates(changed["sound"])
    return changed


def _with_known_rates(values: Mapping[str, Any]) -> dict[str, Any]:
    if "error_rates" not in values:
        return dict(values)
    return {**values, "error_rates": [{"unseen": False, **rate} for rate in values["error_rates"]]}


def evidence_to_record(
    detection: PictureDetection,
    *,
    explanations: Sequence[CheckedExplanation],
    robustness: RobustnessResult | None,
    provenance: Provenance,
) -> dict[str, Any]:
    """Return the evidence for a picture's verdict as JSON values, to be added to the record of its detection.

    Returns:
        "heatmaps" of all faces, "explanations" of the first face, "robustness" and "provenance".
    """
    return {
        "heatmaps": heatmaps_to_values(detection),
        "explanations": [to_values(explanation) for explanation in explanations],
        "robustness": None if robustness is None else to_values(robustness),
        "provenance": to_values(provenance),
    }


def restore_evidence(
    record: Mapping[str, Any], *, heatmaps: Mapping[str, np.ndarray] | None = None
) -> RecordedEvidence:
    """Restore explanations, their checks and the robustness test from a record of any version.

    Args:
        record: of a picture, with or without evidence.
        heatmaps: heat maps that the record leaves out, (h, w) float32 in [0, 1], by method.

    Raises:
        RecordError: the record is damaged, or newer than this version of the detector.
    """
    record = upgrade(record)
    kept = heatmaps or {}
    with _damage_reported():
        explanations = [
            {**explanation, "heatmap": kept.get(explanation["method"], explanation.get("heatmap"))}
            for explanation in record.get("explanations", ())
        ]
        values = {"explanations": explanations, "robustness": record.get("robustness")}
        return _converter.structure(values, RecordedEvidence)


def heatmaps_to_values(detection: PictureDetection) -> list[list[list[float]] | None]:
    """Return the heat map of each face as lists, None for a face without one."""
    return [None if face.heatmap is None else _heatmap_to_values(face.heatmap) for face in detection.faces]


def to_values(result: Any) -> Any:
    """Return one of the detector's results or a part of one as JSON values, without a record's version."""
    return _converter.unstructure(result)


@contextmanager
def _damage_reported() -> Iterator[None]:
    """Turn whatever unexpected values cause into one RecordError."""
    try:
        yield
    except BaseValidationError as error:
        reasons = "; ".join(transform_error(error, path="record")[:MAX_REPORTED_ERRORS])
        raise RecordError(f"The record is damaged: {reasons}.") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"The record is damaged: {type(error).__name__}: {error!s:.100}.") from error


# version 1


def _upgrade_from_1(record: Mapping[str, Any]) -> dict[str, Any]:
    changed = {key: value for key, value in record.items() if key not in _EVIDENCE_KEYS_OF_VERSION_1}
    if "stability" in record:
        stability = record["stability"]
        changed["robustness"] = None if stability is None else _upgrade_robustness(stability["deliveries"])
    if "explanation" in record:
        changed["explanations"] = _upgrade_explanations(record)
    if record.get("media") == VideoDetection.media:
        changed["every_s"] = VideoDetection.every_s  # it was not recorded
    return changed


_EVIDENCE_KEYS_OF_VERSION_1 = ("explanation", "examination", "stability")


def _upgrade_robustness(deliveries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = to_values(_converter.structure({"scores": deliveries}, RobustnessResult))
    return values


def _upgrade_explanations(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    class_map = record["explanation"]
    if not class_map:
        return []
    heatmaps = record.get("heatmaps") or [None]
    explanations = [{**class_map, "heatmap": heatmaps[0], "check": None}]
    if "examination" in record:
        checks = record["examination"]
        lime = checks["lime"]
        explanations[0]["check"] = _upgrade_check(checks["check"])
        size_px = class_map["size_px"]
        explanations.append({**lime, "heatmap": None, "size_px": size_px, "check": _upgrade_check(lime["check"])})
    return explanations


def _upgrade_check(check: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = to_values(_converter.structure(check, DeletionCheck))  # with the present sentence
    return values


# hooks for cattrs


def _heatmap_to_values(heatmap: np.ndarray) -> list[list[float]]:
    values: list[list[float]] = np.round(heatmap.astype(float), HEATMAP_DIGITS).tolist()
    return values


def _derive_explanation(explanation: CheckedExplanation) -> dict[str, Any]:
    heatmap = explanation.heatmap
    is_kept = heatmap is not None and heatmap.size <= MAX_HEATMAP_VALUES
    return {"heatmap": _heatmap_to_values(heatmap) if heatmap is not None and is_kept else None}


def _derive_face(face: Face) -> dict[str, Any]:
    landmarks = face.landmarks
    return {"landmarks": None if landmarks is None else np.round(landmarks.astype(float), 1).tolist()}


def _derive_detection(detection: Detection) -> dict[str, Any]:
    values: dict[str, Any] = {"media": detection.media, "elapsed_ms": round(detection.elapsed_ms, 1)}
    if isinstance(detection, VoiceDetection):
        values["has_spectrogram"] = detection.spectrogram is not None
    return values


# Values that a record holds beside or instead of the fields. Fields with arrays are left out unless listed here.
_DERIVED_VALUES: dict[type, Callable[[Any], dict[str, Any]]] = {
    **dict.fromkeys(DETECTION_CLASSES.values(), _derive_detection),
    Face: _derive_face,
    TrackFrame: lambda frame: {"timestamp_s": round(frame.timestamp_s, 3), "has_crop": frame.crop is not None},
    CheckedExplanation: _derive_explanation,
    DeletionCheck: lambda check: {"sentence": check.sentence},
    RobustnessResult: lambda result: {
        "is_robust": result.is_robust,
        "spread": result.spread,
        "sentence": robustness_sentence(result),
    },
    Finding: lambda finding: {"can_mean": finding.can_mean, "cannot_mean": finding.cannot_mean},
}


def _make_unstructure_hook(kind: type, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    hints = get_type_hints(kind)
    arrays: Any = {name: override(omit=True) for name, hint in hints.items() if hint in _ARRAY_TYPES}
    own_values: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(kind, converter, **arrays)
    derive = _DERIVED_VALUES.get(kind)
    if derive is None:
        return own_values
    return lambda result: {**own_values(result), **derive(result)}


def _structure_array(values: Any, _: Any) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.array(values, np.float32)


def _structure_exactly(values: Any, kind: type) -> Any:
    """Accept values of the field's own type alone, where cattrs would convert them."""
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(values, kinds) or (isinstance(values, bool) and kind is not bool):
        raise ValueError(f"{values!r:.80} is not of type {kind.__name__}")
    return values


def _make_converter() -> Converter:
    converter = Converter(unstruct_collection_overrides={tuple: list})
    converter.register_unstructure_hook_factory(is_dataclass, _make_unstructure_hook)
    converter.register_unstructure_hook(StrEnum, str)
    for kind in (int, float, str, bool):
        converter.register_structure_hook(kind, _structure_exactly)
    converter.register_structure_hook(StrEnum, lambda value, kind: kind(value))
    converter.register_structure_hook(np.ndarray, _structure_array)
    restore_frame = make_dict_structure_fn(TrackFrame, converter)
    restore_voice = make_dict_structure_fn(VoiceDetection, converter)
    converter.register_structure_hook(
        TrackFrame,
        lambda values, kind: restore_frame({**values, "crop": _NO_PIXELS if values.get("has_crop") else None}, kind),
    )
    converter.register_structure_hook(
        VoiceDetection,
        lambda values, kind: restore_voice(
            {**values, "spectrogram": _NO_SPECTROGRAM if values.get("has_spectrogram") else None}, kind
        ),
    )
    return converter


_converter = _make_converter()
