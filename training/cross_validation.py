"""Train a network for each fold left out, and score that fold's pictures with it: families and sources never seen."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from detector.models.spec import file_sha256, read_spec
from training.ablation import score_once, train_into
from training.calibrating import save_model
from training.combining import combine, learned_sources
from training.manifests import ROOT, Example, read_manifest
from training.runs import replace_file, settings_digest
from training.scoring import read_scores, write_scores
from training.settings import (
    MODEL,
    SettingsOptions,
    TrainingSettings,
    WholeNumber,
    describe_settings,
    is_whole_model,
    weights_settings,
)
from training.tables import VISUALIZATIONS, Row
from training.unseen_tables import (
    UnseenAccount,
    calibration_within_limits,
    measure_unseen,
    print_unseen,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SCORES_FILE, METRICS_FILE = "unseen_scores.csv", "unseen_metrics.json"


@dataclass(frozen=True)
class CrossValidationOptions(SettingsOptions):
    """The command line of cross_validate.py."""

    runs: Path | None = None
    """Folder of the runs, one in it for each fold. Left out: one in runs/ named after the settings."""
    out: Path = VISUALIZATIONS
    """Folder of unseen_scores.csv and unseen_metrics.json."""
    folds: tuple[WholeNumber, ...] = ()
    """Folds to leave out, each in a run of its own; by default all that the manifest has."""
    most_per_source: WholeNumber = 0
    """Score at most this many real and this many fake pictures of a source, drawn by group; 0 scores all."""
    member: Path | None = None
    """Average each fold's network with this model, as combine.py does, and score only families and sources that the
    model has not learned from."""
    members: tuple[WholeNumber, ...] = ()
    """Numbers of the networks to average, counted from 0, the fold's last; by default all."""
    sharpness_offset: float = 0.0
    """Of combine.py, with --member."""
    only_tables: bool = False
    """Train and score nothing: compute the figures again, from unseen_scores.csv and the calibration of --model."""
    model: Path = MODEL
    """Model whose calibration decides the verdicts of --only-tables."""

    def __post_init__(self) -> None:
        if self.settings.leave_out_fold is not None:
            raise ValueError("--leave-out-fold: every run leaves out a fold of its own; name them with --folds")
        if self.sharpness_offset and not self.member:
            raise ValueError("--sharpness-offset: it belongs to combined networks; name the other one with --member")
        if is_whole_model(self.settings.weights):
            raise ValueError("--weights: every run leaves out a fold, and a model.h5 may have learned from it")

    def complete(self) -> TrainingSettings:
        """Return the settings of all runs; without --weights none starts from the project's own model."""
        settings = super().complete()
        return settings if self.settings.weights else replace(settings, **weights_settings("none"))


def cross_validate(options: CrossValidationOptions) -> None:
    """Train and score each fold, or read the scores of an earlier call; write and print the figures.

    Raises:
        SystemExit: the manifest cannot be cross-validated, or a folder holds a run with other settings.
        ModelError: the starting weights or the model cannot be used.
    """
    scores, metrics_file = options.out / SCORES_FILE, options.out / METRICS_FILE
    if options.only_tables:
        rows = read_scores(scores)
        earlier = json.loads(metrics_file.read_text())["settings"] if metrics_file.is_file() else {}
        account = UnseenAccount(earlier, read_spec(options.model).calibration, file_sha256(options.model))
    else:
        settings = options.complete()
        runs = options.runs or default_runs(settings)
        rows = score_folds(settings, runs, options)
        options.out.mkdir(parents=True, exist_ok=True)
        replace_file(scores, partial(write_scores, rows))
        account = UnseenAccount(describe_cross_validation(settings, options), calibration_within_limits(rows))
    metrics = measure_unseen(rows, account)
    replace_file(metrics_file, lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    print_unseen(metrics)


def score_folds(settings: TrainingSettings, runs: Path, options: CrossValidationOptions) -> list[Row]:
    """Score the pictures of each fold, after each degradation, by a network that has not learned from the fold.

    Args:
        settings: completed, of all runs.
        runs: folder of the runs; a finished fold in it is not trained or scored again.
        options: which folds and pictures to score, and the model to average each fold's network with.

    Raises:
        SystemExit: the manifest cannot be cross-validated, or a folder holds a run with other settings.
    """
    manifest = Path(settings.manifest)
    parts = read_folds(manifest)
    if unknown := set(options.folds) - set(parts):
        raise SystemExit(f"The manifest {manifest} has no fold {min(unknown)}; its folds are {_listed(parts)}.")
    unlearned = exclude_learned(parts, read_spec(options.member).training) if options.member else parts
    cv2.setNumThreads(1)  # the pools are the parallelism
    rows: list[Row] = []
    for fold in sorted(set(options.folds or parts)):
        print(f"fold {fold}: {len(parts[fold])} pictures left out", flush=True)
        model = train_into(runs / f"fold{fold}", leave_out(settings, parts, fold))
        if options.member:
            model = combine_into(model, options.member, options.members, options.sharpness_offset)
        drawn = draw_per_source(unlearned[fold], options.most_per_source)
        paths = {example.path.relative_to(manifest.parent).as_posix() for example in drawn}
        # An earlier call may have scored more.
        rows += [row for row in score_once(model, drawn, manifest.parent) if row["path"] in paths]
    return rows


def read_folds(manifest: Path) -> dict[int, list[Example]]:
    """Return the pictures of the split train by fold.

    Raises:
        SystemExit: there are fewer than two folds, or a family of fakes, a source of real pictures or a group lies in
            several, so that a network which leaves out one of them would learn from the others.
    """
    examples = [example for example in read_manifest(manifest) if example.split == "train"]
    folds: defaultdict[int, list[Example]] = defaultdict(list)
    places: defaultdict[tuple[str, str], set[int | None]] = defaultdict(set)
    for example in examples:
        if example.fold is not None:
            folds[example.fold].append(example)
        origin = ("family", example.family) if example.label else ("source of real pictures", example.source)
        for part in (origin, ("group", example.group)):
            places[part].add(example.fold)
    if len(folds) < 2:
        raise SystemExit(
            f"Cross-validation needs a manifest with a column fold and at least two folds in the split train; "
            f"{manifest} has {len(folds)}."
        )
    for (what, name), found in places.items():
        if len(found) > 1:
            raise SystemExit(
                f"The {what} {name!r} of the manifest {manifest} lies in the folds {_listed(found)}. "
                "It must be in one, so that a network has not learned from it."
            )
    return dict(sorted(folds.items()))


def exclude_learned(folds: Mapping[int, list[Example]], account: Mapping[str, Any]) -> dict[int, list[Example]]:
    """Return each fold without the families of fakes and the sources of reals that a model has learned from.

    A family counts as learned if any of its sources is; a source of reals also if its name continues that of a learned
    one, as the clips of a collection do.

    Args:
        folds: pictures by fold.
        account: of the model's training.

    Raises:
        SystemExit: the account names no source, so that nothing is known to be left out.
    """
    learned = learned_sources(account)
    if not learned:
        raise SystemExit("The account of the member's training names no source, so what it has not seen is unknown.")
    pictures = [picture for examples in folds.values() for picture in examples]
    families = {picture.family for picture in pictures if picture.label and picture.source in learned}

    def is_learned(picture: Example) -> bool:
        if picture.label:
            return picture.family in families
        return picture.source.startswith(tuple(learned))

    return {fold: [e for e in examples if not is_learned(e)] for fold, examples in folds.items()}


def combine_into(model: Path, member: Path, chosen: tuple[int, ...] = (), sharpness_offset: float = 0.0) -> Path:
    """Average a fold's model with another one in a folder beside it, or find what an earlier call made.

    Args:
        model: model.h5 of the fold.
        member: the other model; its networks come first.
        chosen, sharpness_offset: of `combine`.
    """
    parts = ["with", file_sha256(member)[:12], *map(str, chosen)]
    if sharpness_offset:
        parts.append(f"sharpness{sharpness_offset:g}")
    folder = model.parent / "-".join(parts)
    combined = folder / model.name
    if not combined.is_file():
        folder.mkdir(exist_ok=True)
        save_model(combined, *combine([member, model], chosen, sharpness_offset))
    return combined


def draw_per_source(examples: list[Example], most: int) -> list[Example]:
    """Return at most `most` examples of each source and label, the same ones in every call; all of them for 0.

    Whole groups are drawn, by their names alone, so the last group of a source may lift it slightly above the limit.
    """
    if not most:
        return examples
    counts: Counter[tuple[str, int]] = Counter()
    drawn = set()
    for example in sorted(examples, key=lambda e: hashlib.sha256(e.group.encode()).digest()):
        place = (example.source, example.label)
        if counts[place] < most or example.group in drawn:
            counts[place] += 1
            drawn.add(example.group)
    return [example for example in examples if example.group in drawn]


def leave_out(settings: TrainingSettings, folds: Mapping[int, list[Example]], fold: int) -> TrainingSettings:
    """Return the settings of the run without a fold; a source that lies in it alone cannot be shown more often."""
    left_out = {example.source for example in folds[fold]}
    kept = {example.source for other, examples in folds.items() if other != fold for example in examples}
    emphasis = {name: factor for name, factor in settings.emphasis.items() if name not in left_out - kept}
    return replace(settings, emphasis=emphasis, leave_out_fold=fold)


def default_runs(settings: TrainingSettings) -> Path:
    """Return the folder of the runs with these settings."""
    return ROOT / "runs" / f"folds-{settings.network}-{settings_digest(settings)}"


def describe_cross_validation(settings: TrainingSettings, options: CrossValidationOptions) -> dict[str, Any]:
    """Return the settings of a cross-validation and of its runs, for a file that is published."""
    averaged: dict[str, Any] = {}
    if options.member:
        averaged = {"member_sha256": file_sha256(options.member), "members": options.members}
        if options.sharpness_offset:
            averaged["sharpness_offset"] = options.sharpness_offset
    return describe_settings(settings) | {"most_per_source": options.most_per_source} | averaged


def _listed(folds: Collection[int | None]) -> str:
    return ", ".join(
        "none" if fold is None else str(fold) for fold in sorted(folds, key=lambda f: -1 if f is None else f)
    )
