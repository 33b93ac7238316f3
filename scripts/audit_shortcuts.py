"""Audit whether file history, or single numbers of the faces, separate fakes from reals in the network's batches.

    python scripts/audit_shortcuts.py                       # data/synthetic_data/manifest.csv
    python scripts/audit_shortcuts.py --manifest FACES.csv --sources
    python scripts/audit_shortcuts.py --manifest FACES.csv --undamaged       # the effect of the degradations
    python scripts/audit_shortcuts.py --manifest FACES.csv --self-blend 1    # reals against fakes made of them
    python scripts/audit_shortcuts.py --manifest FACES.csv --check statistics    # sharpness, size, noise, contrast

A small classifier is fitted on a few features of each picture, never on its pixels, and scored on other groups. It runs
once on the stored files ("before", every picture equally often) and once on the batches of train.py ("after", sources
balanced as in training). File history means sizes, compression and scaling. A network that learns it has learned which
site a picture came from, so preprocessing must remove it. Appearance means colour, sharpness and noise. Generators get
them partly wrong, so appearance is printed but has no limit.

Sharpness, size, noise and contrast of the face have one. They differ between collections in both directions. A
network that leans on them is right or wrong by collection. Each is scored alone, and all together by the classifier,
for the whole manifest and for what each of its folds leaves for training. "Before" is the stored face, not scaled.
Exits with status 1 and a sentence when file history or these numbers still separate the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.shortcuts import AuditOptions, audit_shortcuts


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and audit."""
    audit_shortcuts(tyro.cli(AuditOptions, args=arguments, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))


if __name__ == "__main__":
    main()
