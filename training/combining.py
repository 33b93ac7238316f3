"""Join several trained models into one whose logit is the mean of theirs, and calibrate it.

    python scripts/combine.py ONE.h5 OTHER.h5 --manifest FACES.csv

The models must take crops of the same size, cut alike. Export and evaluate afterwards, as after training.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from detector.models.engines import KerasEngine
from detector.models.spec import ModelSpec
from detector.results import DetectorError, ModelError
from training.calibrating import UNCALIBRATED, write_calibrated
from training.manifests import ROOT, read_manifest, split_train_calibration
from training.networks import average_networks

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def combine(paths: list[Path]) -> tuple[object, ModelSpec]:
    """Load models and average them; returns the network and its spec, not calibrated.

    Raises:
        ModelError: a model cannot be read, or they want different crops.
    """
    engines = [KerasEngine(path) for path in paths]
    if len({engine.spec.face.crop_margin for engine in engines}) > 1:
        raise ModelError("Models that are joined must be trained on crops of the same margin.")
    network = average_networks([engine.network for engine in engines])
    last = engines[-1].spec
    members = [{"sha256": engine.model_sha256, **engine.spec.training} for engine in engines]
    account = {
        name: last.training[name] for name in ("sources", "fit", "tune", "curve", "date") if name in last.training
    }
    spec = ModelSpec("ensemble", last.input, UNCALIBRATED, {**account, "members": members})
    return network, spec


def main(argv: list[str] | None = None) -> None:
    """Join, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model.h5 files that train.py wrote")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--out", type=Path, default=ROOT / "model.h5")
    options = parser.parse_args(argv)
    _, tune = split_train_calibration(read_manifest(options.manifest))
    try:
        write_calibrated(options.out, *combine(options.models), tune)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {options.out}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
