"""Networks ready to run: engines, specs, calibration, reference scores."""

from detector.models.engines import Engine
from detector.models.spec import ModelSpec

__all__ = ["Engine", "ModelSpec"]
