"""Measure the evidence beside a verdict: the quality gate, the robustness test, the explanations.

    python scripts/measure_evidence.py --manifest FACES.csv
    python scripts/measure_evidence.py --manifest FACES.csv --only quality_gate lime --pictures 800
    python scripts/measure_evidence.py --manifest FACES.csv --split tune    # calibration pictures, for choices

Uses pictures that the network has not learned from, unless --split says otherwise. Each source and label counts as
often as another as far as they go. Degraded pictures and drawings are made of them. Prints tables that answer three
questions. Which proportion of fine pictures do the thresholds of detector/pictures/quality.py exclude, and how well
does the network separate the labels beyond them? Does the robustness test find wrong verdicts better than the distance
to the threshold alone? How many heat maps pass the deletion check? Intervals are of 95%, over groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.evidence_measures import EvidenceOptions, measure_evidence


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    measure_evidence(tyro.cli(EvidenceOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
