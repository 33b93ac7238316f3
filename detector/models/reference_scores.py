"""The model's scores of held-out pictures: the small table that ships with the weights.

With it a verdict comes with an error rate: of real pictures like this one, how many score as high by mistake?
scripts/calibrate.py writes the table from the scores of kinds left out, scripts/evaluate.py from held-out pictures of
the collections the model was trained on; `load_detector` reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from detector.metrics import proportion
from detector.results import HISTOGRAM_BIN_EDGES, ErrorRate, ModelError

TABLE_VERSION = 1
CLASSES = ("real", "fake")  # by label
EDGES_PX = (96, 160, 256)  # possible limits between sizes of faces
MIN_IN_SIZE = 100  # pictures of each kind, or a size is merged with the next
MIN_PICTURES = 20  # of a kind, or no rate is given
DIGITS = 4  # of a probability; rounding can only make ties, and ties count against the verdict


@dataclass(frozen=True, eq=False)
class SizeScores:
    """The scores of held-out pictures of one kind whose faces are of about one size.

    Attributes:
        kind: "real" or "fake".
        min_px, max_px: range of the longer side of the face box; `max_px` is excluded, None means no limit.
        probabilities: (N,) calibrated P(fake), ascending, rounded to DIGITS.
        groups: (N,) numbers; dependent pictures share one.
    """

    kind: str
    min_px: int
    max_px: int | None
    probabilities: np.ndarray
    groups: np.ndarray

    def error_rate(self, probability: float, *, unseen: bool = False) -> ErrorRate:
        """Return how often such a picture had a score at least as wrong: a real one as high, a fake as low."""
        score = round(probability, DIGITS)
        as_wrong = self.probabilities >= score if self.kind == "real" else self.probabilities <= score
        rate = proportion(as_wrong, self.groups)
        counts, _ = np.histogram(self.probabilities, HISTOGRAM_BIN_EDGES)
        size = (self.min_px, self.max_px)
        return ErrorRate(self.kind, rate.n, rate.value, rate.low, rate.high, *size, tuple(counts.tolist()), unseen)


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """The scores of held-out pictures, by size of the face and kind.

    Attributes:
        model_sha256: of the model.h5 that they belong to.
        split: which pictures they are, as the manifest calls them.
        sizes: one entry for each size and kind with enough pictures.
        unseen: whether each score comes from a network that had learned from nothing of the picture's family or
            source, and has gone through this model's calibration. If not, this model gave the scores itself.
    """

    model_sha256: str
    split: str
    sizes: tuple[SizeScores, ...]
    unseen: bool = False

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
        unseen: bool = False,
    ) -> ReferenceScores:
        """Return the table for the scores of undegraded pictures.

        Args:
            labels: (N,) 1 = fake.
            probabilities: (N,) calibrated P(fake).
            face_px: (N,) longer side of the box of the decisive face (`Face.size_px`); 0 leaves out a picture that
                gets no verdict because it has no face, or none large enough.
            groups: (N,) dependent pictures share one.
            split: of the manifest.
            model_sha256: of the model.h5 that the scores belong to.
            unseen: whether the scores come from networks that had learned from nothing of these families and sources.
        """
        face_px = np.asarray(face_px)
        labels, probabilities, groups, face_px = (
            np.asarray(column)[face_px > 0] for column in (labels, probabilities, groups, face_px)
        )
        sizes = []
        edges = _choose_edges(labels, face_px)
        for min_px, max_px in zip([0, *edges], [*edges, None], strict=True):
            for label, kind in enumerate(CLASSES):
                chosen = np.flatnonzero((labels == label) & _lies_in(face_px, min_px, max_px))
                if len(chosen) >= MIN_PICTURES:
                    chosen = chosen[np.argsort(probabilities[chosen], kind="stable")]
                    rounded = np.round(probabilities[chosen].astype(float), DIGITS)
                    _, places = np.unique(groups[chosen], return_inverse=True)
                    sizes.append(SizeScores(kind, min_px, max_px, rounded, places))
        return cls(model_sha256, split, tuple(sizes), unseen)

    def error_rates(self, probability: float, face_px: float) -> tuple[ErrorRate, ...]:
        """Return how often held-out pictures with a face of this size had a score at least as wrong.

        Args:
            probability: calibrated P(fake) of the picture.
            face_px: longer side of the box of the decisive face.

        Returns:
            The rate of the reals and that of the fakes, without a kind that has too few pictures.
        """
        return tuple(
            size.error_rate(probability, unseen=self.unseen)
            for size in self.sizes
            if _lies_in(face_px, size.min_px, size.max_px)
        )

    def write(self, path: str | Path) -> None:
        """Write the table as JSON."""
        table = {"version": TABLE_VERSION, **asdict(self)}
        for size in table["sizes"]:
            size.update({name: size[name].tolist() for name in ("probabilities", "groups")})
        Path(path).write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


def load_matching_reference_scores(path: Path, model_sha256: str) -> ReferenceScores | None:
    """Read the table beside a model; None when there is none, or it belongs to another model.

    Raises:
        ModelError: the table is damaged.
    """
    if not path.is_file():
        return None
    table = read_reference_scores(path)
    return table if table.model_sha256 == model_sha256 else None


def read_reference_scores(path: str | Path) -> ReferenceScores:
    """Read what `ReferenceScores.write` wrote.

    Raises:
        ModelError: the file is not such a table, or of another version.
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
            raise ValueError("its columns do not match")
        if any(np.any((size.probabilities < 0) | (size.probabilities > 1)) for size in sizes):
            raise ValueError("a probability is not in [0, 1]")
        if not isinstance(table.get("unseen", False), bool):  # tables of earlier versions lack it
            raise ValueError("unseen is neither true nor false")
        return ReferenceScores(**table, sizes=tuple(sizes))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        name = Path(path).name
        raise ModelError(f"{name} cannot be read; delete it and write it again with scripts/evaluate.py") from error


def _choose_edges(labels: np.ndarray, face_px: np.ndarray) -> list[int]:
    """Return the limits with enough pictures of both kinds on either side, ascending."""
    edges: list[int] = []
    for edge in EDGES_PX:
        below = labels[_lies_in(face_px, edges[-1] if edges else 0, edge)]
        above = labels[face_px >= edge]
        if min(np.sum(side == label) for side in (below, above) for label in (0, 1)) >= MIN_IN_SIZE:
            edges.append(edge)
    return edges


def _lies_in(face_px: np.ndarray | float, min_px: int, max_px: int | None) -> np.ndarray:
    face_px = np.asarray(face_px)
    return (face_px >= min_px) & (face_px < (np.inf if max_px is None else max_px))
