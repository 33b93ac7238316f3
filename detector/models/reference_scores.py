"""What the model made of pictures it had never seen: the small table that ships with the weights.

It answers what a person asks beside a verdict: of real pictures like this one, how many scored this high by mistake?
scripts/evaluate.py writes it, `load_detector` reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from detector.metrics import proportion
from detector.results import HISTOGRAM_BIN_EDGES, ErrorRate, ModelError

TABLE_VERSION = 1
CLASSES = ("real", "fake")  # by label
EDGES_PX = (96, 160, 256)  # where another size of face may begin
MIN_IN_SIZE = 100  # pictures of each kind, or a size is not told apart from the next
MIN_PICTURES = 20  # of a kind, or no rate is given
DIGITS = 4  # of a probability; rounding keeps the order, so it only makes ties, and those count against the verdict


@dataclass(frozen=True, eq=False)
class SizeScores:
    """The scores of held-out pictures of one kind whose faces are of about one size.

    Attributes:
        kind: "real" or "fake".
        min_px, max_px: of the longer side of the face box; `max_px` is the first that is too large, None for no end.
        probabilities: (N,) calibrated P(fake), ascending, rounded to DIGITS.
        groups: (N,) what belongs together has the same number.
    """

    kind: str
    min_px: int
    max_px: int | None
    probabilities: np.ndarray
    groups: np.ndarray

    def error_rate(self, probability: float) -> ErrorRate:
        """Return how often such a picture scored at least as wrongly: a real one as high, a fake as low."""
        score = round(probability, DIGITS)
        as_wrong = self.probabilities >= score if self.kind == "real" else self.probabilities <= score
        rate = proportion(as_wrong, self.groups)
        counts, _ = np.histogram(self.probabilities, HISTOGRAM_BIN_EDGES)
        size = (self.min_px, self.max_px)
        return ErrorRate(self.kind, rate.n, rate.value, rate.low, rate.high, *size, tuple(counts.tolist()))


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """The scores of held-out pictures, by size of the face and kind.

    Attributes:
        model_sha256: of the model.h5 that gave them.
        split: which pictures they are, as the manifest calls them.
        sizes: a size and kind each, as far as there are enough pictures.
    """

    model_sha256: str
    split: str
    sizes: tuple[SizeScores, ...]

    @classmethod
    def from_scores(
        cls,
        *,
        labels: np.ndarray,
        probabilities: np.ndarray,
        face_px: np.ndarray,
        groups: np.ndarray,
        split: str,
        model_sha256: str,
    ) -> ReferenceScores:
        """Make the table from the scores of pictures as they are stored.

        Args:
            labels: (N,) 1 = fake.
            probabilities: (N,) calibrated P(fake).
            face_px: (N,) longer side of the box of the face that decided (`Face.size_px`); 0 for a picture whose
                score decides nothing because it has no face, or none large enough: it is left out.
            groups: (N,) what belongs together.
            split: of the manifest.
            model_sha256: of the model.h5 that gave the scores.
        """
        face_px = np.asarray(face_px)
        labels, probabilities, groups, face_px = (
            np.asarray(column)[face_px > 0] for column in (labels, probabilities, groups, face_px)
        )
        sizes = []
        for min_px, max_px in pairwise((0, *_choose_edges(labels, face_px), None)):
            for label, kind in enumerate(CLASSES):
                chosen = np.flatnonzero((labels == label) & _lies_in(face_px, min_px, max_px))
                if len(chosen) >= MIN_PICTURES:
                    chosen = chosen[np.argsort(probabilities[chosen], kind="stable")]
                    rounded = np.round(probabilities[chosen].astype(float), DIGITS)
                    _, places = np.unique(groups[chosen], return_inverse=True)
                    sizes.append(SizeScores(kind, min_px, max_px, rounded, places))
        return cls(model_sha256, split, tuple(sizes))

    def error_rates(self, probability: float, face_px: float) -> tuple[ErrorRate, ...]:
        """Return how often held-out pictures with a face of this size scored at least as wrongly.

        Args:
            probability: calibrated P(fake) of the picture.
            face_px: longer side of the box of the face that decided.

        Returns:
            The rate of the reals and that of the fakes; none for a kind of which there are too few.
        """
        return tuple(size.error_rate(probability) for size in self.sizes if _lies_in(face_px, size.min_px, size.max_px))

    def write(self, path: str | Path) -> None:
        """Write the table as JSON."""
        table = {"version": TABLE_VERSION, **asdict(self)}
        for size in table["sizes"]:
            size.update({name: size[name].tolist() for name in ("probabilities", "groups")})
        Path(path).write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


def load_matching_reference_scores(path: Path, model_sha256: str) -> ReferenceScores | None:
    """Read the table beside a model; None when there is none, or it tells of another model.

    Raises:
        ModelError: it is damaged.
    """
    held_out = read_reference_scores(path) if path.is_file() else None
    return held_out if held_out is not None and held_out.model_sha256 == model_sha256 else None


def read_reference_scores(path: str | Path) -> ReferenceScores:
    """Read what `ReferenceScores.write` wrote.

    Raises:
        ModelError: not such a table, or of another version.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        if table.pop("version") != TABLE_VERSION:
            raise ValueError(f"not of version {TABLE_VERSION}")
        columns = ("probabilities", "groups")
        sizes = [
            SizeScores(**size | {name: np.array(size[name], float) for name in columns}) for size in table.pop("sizes")
        ]
        if any(size.kind not in CLASSES or size.probabilities.shape != size.groups.shape for size in sizes):
            raise ValueError("its columns do not fit")
        if any(np.any((size.probabilities < 0) | (size.probabilities > 1)) for size in sizes):
            raise ValueError("a probability is not in [0, 1]")
        return ReferenceScores(**table, sizes=tuple(sizes))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        name = Path(path).name
        raise ModelError(f"{name} cannot be read; delete it and write it again with scripts/evaluate.py") from error


def _choose_edges(labels: np.ndarray, face_px: np.ndarray) -> list[int]:
    """Return the edges that leave enough pictures of both kinds on either side, from small faces to large ones."""
    edges: list[int] = []
    for edge in EDGES_PX:
        below = labels[_lies_in(face_px, edges[-1] if edges else 0, edge)]
        above = labels[face_px >= edge]
        if min(np.sum(side == label) for side in (below, above) for label in (0, 1)) >= MIN_IN_SIZE:
            edges.append(edge)
    return edges


def _lies_in(face_px: np.ndarray | float, min_px: int, max_px: int | None) -> np.ndarray:
    return (face_px >= min_px) & (face_px < (np.inf if max_px is None else max_px))
