"""A model's spec: preprocessing, calibration and origin, stored inside the weights file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detector.models.calibration import Calibration
from detector.results import ModelError

SPEC_KEY = "detector_spec"  # HDF5 attribute of model.h5 and metadata key of face.onnx
ORIGIN_KEY = "made_from_sha256"  # metadata key of face.onnx: the model.h5 it was exported from
SPEC_VERSION = 3


@dataclass(frozen=True)
class FaceInput:
    """The input of a face network: RGB in 0 to 255 as float32; the network scales its input itself.

    Attributes:
        size_px: side of the square input.
        crop_margin: side of the face crop over the longer side of the face box.
    """

    size_px: int
    crop_margin: float


@dataclass(frozen=True)
class VoiceInput:
    """The input of a voice network: log spectrograms of windows of a recording, normalized to one level.

    Attributes:
        sample_rate_hz: of the waveform.
        level: root mean square of the frames with sound, full scale = 1.
        window_s, hop_s: length of a window, and largest distance between the starts of neighbouring windows.
        fft_length, fft_hop_length: samples of a spectrogram frame, and between neighbouring frames.
        bands: linear frequency bands from 0 to half the sample rate.
        floor_db: power added to each band, relative to full scale.
        short_fft_length: samples of the frames of a second spectrogram, twice as many as those of the first; 0 = none.
        encoder_bands: mel bands of those frames, for a pretrained encoder; 0 = none.
        wideband_fft_length: samples of the frames of a third spectrogram, twice as many as those of a fourth; 0 = none.
    """

    sample_rate_hz: int
    level: float
    window_s: float
    hop_s: float
    fft_length: int
    fft_hop_length: int
    bands: int
    floor_db: float
    short_fft_length: int = 0
    encoder_bands: int = 0
    wideband_fft_length: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """How to prepare a network's input and how to interpret its logit.

    Attributes:
        network: architecture name, one of `training.networks.NETWORKS`, "voice", "ensemble" or "adopted".
        input: the network's input.
        calibration: from logit to probability, and the two thresholds.
        training: the origin of the weights: sources with counts, curve, settings, date.
    """

    network: str
    input: FaceInput | VoiceInput
    calibration: Calibration
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def face(self) -> FaceInput:
        """The input of a face network.

        Raises:
            ModelError: this is the spec of a voice network.
        """
        if not isinstance(self.input, FaceInput):
            raise ModelError(f"The model's network is {self.network!r}; a network for faces is needed.")
        return self.input

    @property
    def voice(self) -> VoiceInput:
        """The input of a voice network.

        Raises:
            ModelError: this is the spec of a face network.
        """
        if not isinstance(self.input, VoiceInput):
            raise ModelError(f"The model's network is {self.network!r}; a network for voices is needed.")
        return self.input

    def to_json(self) -> str:
        """Return the text that is stored in a weights file."""
        return json.dumps({"version": SPEC_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what `to_json` of this or an earlier version wrote.

        Raises:
            ModelError: not a spec, or of an unknown version.
        """
        try:
            values = json.loads(text)
            version = values.pop("version")
            if version not in (1, 2, SPEC_VERSION):
                raise ModelError(f"The model's spec is not of version {SPEC_VERSION}; export the model again.")
            if version == 1:
                values = _upgrade_from_1(values)
            elif version == 2:
                values = _upgrade_from_2(values)
            kind = VoiceInput if "bands" in values["input"] else FaceInput
            parts = {"input": kind(**values["input"]), "calibration": Calibration(**values["calibration"])}
            return cls(**{**values, **parts})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError("The model's spec cannot be read; export the model again.") from error


def _upgrade_from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Convert the values of a spec of version 1, in which voice networks carried a face's fields too, to version 2."""
    size_px, crop_margin = values.pop("input_size_px"), values.pop("crop_margin")
    if values["network"] != "voice":
        return {**values, "input": {"size_px": size_px, "crop_margin": crop_margin}}
    training = dict(values["training"])
    audio = training.pop("audio")
    audio["fft_length"], audio["fft_hop_length"] = audio.pop("frame"), audio.pop("step")
    return {**values, "training": training, "input": audio}


def _upgrade_from_2(values: dict[str, Any]) -> dict[str, Any]:
    """Convert the values of a spec of version 2, in which the engines could correct a face's logit for blur."""
    network_input = dict(values["input"])
    if network_input.pop("blur_slope", 0.0):
        raise ModelError(
            "The model's logit needs a correction for blur that this version does not make; train it again."
        )
    return {**values, "input": network_input}


def write_spec(path: str | Path, spec: ModelSpec) -> None:
    """Write `spec` into an HDF5 weights file; Keras still loads the file afterwards."""
    import h5py  # only training writes weights

    with h5py.File(path, "r+") as weights:
        weights.attrs[SPEC_KEY] = spec.to_json()


def read_spec(path: str | Path) -> ModelSpec:
    """Read the spec of an HDF5 weights file.

    Raises:
        ModelError: the file is missing, is not an HDF5 file or carries no spec.
    """
    import h5py  # the server reads the exported file instead

    path = Path(path)
    if not path.is_file():
        raise ModelError(f"The model file {path.name} is missing.")
    try:
        with h5py.File(path, "r") as weights:
            text = weights.attrs.get(SPEC_KEY)
    except OSError as error:
        raise ModelError(f"{path.name} is not an HDF5 weights file.") from error
    if text is None:
        raise ModelError(
            f"{path.name} carries no spec, so its input size, crop and thresholds are unknown. "
            f"Adopt it with: python scripts/adopt.py {path.name} --manifest MANIFEST --positive fake|real"
        )
    return ModelSpec.from_json(text)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
