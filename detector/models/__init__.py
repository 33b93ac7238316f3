"""Networks ready to run: engines, specs, calibration, reference scores."""

from detector.models.engines import Engine

__all__ = ["Engine"]
