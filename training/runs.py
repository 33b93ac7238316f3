"""Run folders: settings, starts, training curves and checkpoints, written so that a stopped run can resume."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

CurveRow = dict[str, float]


class SettingsDataclass(Protocol):
    """Any dataclass; `dataclasses.asdict` accepts nothing else."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files in a run's folder."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Model and optimizer after the last finished epoch."""
        return self.path / "checkpoint.keras"

    @property
    def history(self) -> Path:
        """Training curves, a row per epoch."""
        return self.path / "history.csv"

    @property
    def best_weights(self) -> Path:
        """Averaged weights of the best epoch."""
        return self.path / "best.weights.h5"

    def read_history(self) -> list[CurveRow]:
        """Read the training curves; a new run has none."""
        if not self.history.is_file():
            return []
        with open(self.history, newline="") as file:
            return [
                {name: int(text) if text.isdigit() else float(text) for name, text in row.items()}
                for row in csv.DictReader(file)
            ]

    def write_history(self, rows: list[CurveRow]) -> None:
        """Write the training curves."""
        replace_file(self.history, partial(_write_rows, rows))


def open_run(run: Path, settings: SettingsDataclass) -> None:
    """Create a run's folder, or continue one, and note the time and the commit.

    Args:
        run: the folder.
        settings: dataclass of the run's settings, kept as settings.json.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    run.mkdir(parents=True, exist_ok=True)
    wanted, kept = settings_text(settings, indent=2), run / "settings.json"
    if kept.is_file() and kept.read_text() != wanted:
        raise SystemExit(f"{run} holds a run with other settings; give another --run or remove it.")
    replace_file(kept, lambda part: part.write_text(wanted))
    with open(run / "starts.txt", "a") as starts:
        starts.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit() or 'unknown'}\n")


def settings_text(settings: SettingsDataclass, *, indent: int | None = None) -> str:
    """Return settings as JSON without those that are None, so that a new optional one keeps earlier runs resumable."""
    stated = {name: value for name, value in asdict(settings).items() if value is not None}
    return json.dumps(stated, indent=indent)


def settings_digest(settings: SettingsDataclass) -> str:
    """Return the eight digits that name the default run folder of these settings."""
    return hashlib.sha256(settings_text(settings).encode()).hexdigest()[:8]


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name and move it into place, so an interruption leaves no partial file.

    Args:
        path: the file to replace.
        write: function that writes the path it is given; the suffix stays the same.
    """
    part = path.with_name(f"part-{path.name}")
    write(part)
    part.replace(path)


def commit() -> str:
    """Return the commit of the code, marked if changed since; empty outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607  # wherever git is installed
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


def _write_rows(rows: list[CurveRow], path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
