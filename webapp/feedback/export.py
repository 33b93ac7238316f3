"""Export the cases as files and manifests that the scripts of training read."""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from detector.media import MEDIA
from webapp import uploads
from webapp.feedback.cases import CLAIMED_TRUTHS, FeedbackCase
from webapp.models import db

FEEDBACK_SOURCE = "feedback"
UNKNOWN_GENERATOR = "unknown"
# Nobody has checked what visitors say, so nothing is learned from it before a person moves a case to another split.
FEEDBACK_SPLIT = "val"
# The columns of training's manifests of pictures, of videos and of recordings, then those about the case.
CASE_COLUMNS = (
    *("path", "label", "source", "generator", "group", "split", "speaker"),
    *("verdict", "probability", "model_sha256", "sent_at", "note"),
)
MEDIA_SUFFIXES = {media_type: suffix for medium in MEDIA.values() for media_type, suffix in medium.media_types.items()}


@dataclass(frozen=True)
class FeedbackExport:
    """What was exported.

    Attributes:
        counts: number of files by medium.
        contradicted: number of files that some visitors call real and others fake, which are left out.
        missing: number of files that are no longer stored.
    """

    counts: dict[str, int]
    contradicted: int
    missing: int


def export_cases(folder: Path) -> FeedbackExport:
    """Write the files of all cases, and a manifest for each medium, such as image.csv, into a new or empty folder.

    Raises:
        FileExistsError: the folder holds files already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Choose another folder, so that no earlier export is mixed in.")
    by_file = defaultdict(list)
    for case in db.session.scalars(select(FeedbackCase).order_by(FeedbackCase.created_at)):
        by_file[case.upload_sha256].append(case)
    rows: dict[str, list[dict[str, object]]] = defaultdict(list)
    contradicted = missing = 0
    for sha256, cases in by_file.items():
        if len({case.truth for case in cases}) > 1:
            contradicted += 1
            continue
        case = cases[0]
        path = folder / case.media / f"{sha256}.{MEDIA_SUFFIXES[case.upload.media_type]}"
        path.parent.mkdir(exist_ok=True)
        try:
            with uploads.open_upload(sha256) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        except FileNotFoundError:
            missing += 1
            continue
        rows[case.media].append(_row(case, path.relative_to(folder)))
    for media, listed in rows.items():
        _write(folder / f"{media}.csv", listed)
    return FeedbackExport({media: len(listed) for media, listed in rows.items()}, contradicted, missing)


def _row(case: FeedbackCase, path: Path) -> dict[str, object]:
    label = CLAIMED_TRUTHS.index(case.truth)
    return {
        "path": path.as_posix(),
        "label": label,
        "source": FEEDBACK_SOURCE,
        "generator": UNKNOWN_GENERATOR if label else "",
        "group": case.upload_sha256,
        "split": FEEDBACK_SPLIT,
        "speaker": case.upload_sha256[:16],
        "verdict": case.verdict,
        "probability": f"{case.probability:.6g}",
        "model_sha256": case.model_sha256,
        "sent_at": case.created_at.isoformat(),
        "note": " ".join(case.note.split()),
    }


def _write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CASE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
