"""Build hook: copy the shipped networks into the wheel as the package data `detector/weights/`."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PATTERNS = ("face.onnx", "voice.onnx", "*.reference_scores.json", "*.LICENSE.txt")


class WeightsHook(BuildHookInterface[Any]):
    """Add `models/` files that inference needs; the training-only files stay out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Map each file into the wheel; an editable install reads `models/` from the checkout instead."""
        if version == "editable":
            return
        models = Path(self.root) / "models"
        for pattern in PATTERNS:
            for path in sorted(models.glob(pattern)):
                build_data["force_include"][str(path)] = f"detector/weights/{path.name}"
