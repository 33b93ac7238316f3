"""Analyses and batches as JSON values: the API's results say what the pages say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import url_for

from detector.media import MEDIA
from detector.reports import headline, was_checked
from webapp import analyses, drawings, evidence, page_files
from webapp.batches.files import RefusedFile
from webapp.batches.results import BatchSummary, refused_files
from webapp.models import Analysis, State
from webapp.result_words import words_of
from webapp.retention import expires_at

FACE_KEYS = ("box", "crop_box", "detection_score", "logit", "probability", "reasons")
TRACK_KEYS = ("logit", "probability", "verdict", "votes", "reasons")
CHECK_KEYS = ("matters", "sentence")


def analysis_values(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis, with its result once it is done."""
    (values,) = list_values([analysis])
    return values


def list_values(found: Sequence[Analysis]) -> list[dict[str, Any]]:
    """Return analyses, as `analysis_values` does."""
    waiting = [analysis.id for analysis in found if analysis.state == State.WAITING]
    places = analyses.places_in_queue(waiting) if waiting else {}
    return [_analysis_values(analysis, places.get(analysis.id)) for analysis in found]


def rejected_values(refused: Iterable[RefusedFile]) -> list[dict[str, Any]]:
    """Return the refused files of a request."""
    return [{"filename": each.filename, "status": each.status, "detail": each.error} for each in refused]


def batch_values(summary: BatchSummary) -> dict[str, Any]:
    """Return a batch, and how far it is."""
    batch, end = summary.batch, expires_at(summary.batch.created_at)
    return {
        "id": batch.id,
        "url": url_for("api.get_batch", batch_id=batch.id),
        "analyses_url": url_for("api.list_analyses", batch=batch.id),
        "name": batch.name,
        "state": State.RUNNING if summary.n_unfinished else State.DONE,
        "progress": summary.progress,
        "files": summary.n_files,
        "outcomes": dict(summary.counts),
        "rejected": rejected_values(refused_files(batch)),
        "created_at": batch.created_at.isoformat(),
        "expires_at": None if end is None else end.isoformat(),
    }


def _analysis_values(analysis: Analysis, files_before: int | None) -> dict[str, Any]:
    is_running = analysis.state == State.RUNNING
    end = expires_at(analysis.created_at)
    return {
        "id": analysis.id,
        "url": url_for("api.get_analysis", analysis_id=analysis.id),
        "batch_id": analysis.batch_id,
        "filename": analysis.filename,
        "media": analysis.media,
        "media_type": analysis.upload.media_type,
        "size_bytes": analysis.upload.size_bytes,
        "sha256": analysis.upload_sha256,
        "state": analysis.state,
        "progress": analysis.progress if is_running else 1.0 if analysis.state == State.DONE else None,
        "files_before": files_before,
        "created_at": analysis.created_at.isoformat(),
        "expires_at": None if end is None else end.isoformat(),
        "error": analysis.error,
        "result": result_values(analysis) if analysis.state == State.DONE else None,
    }


def result_values(analysis: Analysis) -> dict[str, Any]:
    """Return the verdict of an analysis that is done, in numbers and in words."""
    record, words = analysis.record, words_of(analysis)
    return {
        "verdict": analysis.verdict,
        "headline": words.headline,
        "is_checked": words.is_checked,
        "probability": analysis.probability,
        "logit": record["logit"],
        "band": _band(analysis),
        "reasons": list(record["reasons"]),
        "reason_sentences": list(words.reasons),
        "error_sentence": words.verdict_error if words.is_checked else None,
        "how_often_wrong": words.how_often_wrong if words.is_checked else None,
        "advice": list(words.advice),
        "error_rates": [dict(rate) for rate in words.rates],
        "model_sha256": record["model_sha256"],
        "elapsed_ms": analysis.elapsed_ms,
        "width_px": record.get("width_px"),
        "height_px": record.get("height_px"),
        "duration_s": record.get("duration_s"),
        "faces": _faces(analysis, record),
        "tracks": [_track(track) for track in record.get("tracks", ())],
        "segments": list(record.get("segments", ())),
        "sound": _sound(record["sound"]) if record.get("sound") else None,
        "robustness": record.get("robustness"),
    }


def explanation_values(analysis: Analysis) -> dict[str, Any]:
    """Return the heat maps of a picture that is done, and what its explanations and their checks say."""
    record = analysis.record
    explanations = [
        {
            "method": explanation["method"],
            "sentence": explanation["sentence"],
            "regions": explanation["regions"],
            "size_px": explanation["size_px"],
            "heatmap": explanation["heatmap"],
            "heatmap_url": _file_url(analysis, page_files.explanation_name(explanation["method"])),
            "check": explanation["check"] and {key: explanation["check"][key] for key in CHECK_KEYS},
        }
        for explanation in record.get("explanations", ())
    ]
    return {"explanations": explanations, "can_be_checked": evidence.can_check_explanation(record)}


def _band(analysis: Analysis) -> dict[str, Any]:
    values = (analysis.probability or 0.0, analysis.threshold_real or 0.0, analysis.threshold_fake or 0.0)
    band = drawings.band(*values)
    return {
        "zone": band.zone,
        "title": band.title,
        "edge": band.edge,
        "threshold_real": analysis.threshold_real,
        "threshold_fake": analysis.threshold_fake,
    }


def _faces(analysis: Analysis, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    faces = record.get("faces", ())
    heatmaps = record.get("heatmaps") or [None] * len(faces)
    return [
        {
            **{key: face[key] for key in FACE_KEYS},
            "heatmap_url": None
            if heatmap is None or face["reasons"]
            else _file_url(analysis, page_files.heatmap_name(number)),
        }
        for number, (face, heatmap) in enumerate(zip(faces, heatmaps, strict=True))
    ]


def _track(track: Mapping[str, Any]) -> dict[str, Any]:
    times = [frame["timestamp_s"] for frame in track["frames"]]
    return {**{key: track[key] for key in TRACK_KEYS}, "frames": len(times), "start_s": times[0], "end_s": times[-1]}


def _sound(sound: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "verdict": sound["verdict"],
        "headline": headline(sound["verdict"], "audio", sound["reasons"]),
        "is_checked": was_checked(sound["reasons"]),
        "probability": sound["probability"],
        "logit": sound["logit"],
        "reasons": list(sound["reasons"]),
        "segments": list(sound["segments"]),
    }


def _file_url(analysis: Analysis, name: str) -> str:
    return url_for("api.get_file", analysis_id=analysis.id, name=name)


def has_evidence(analysis: Analysis) -> bool:
    """Return whether there is an evidence bundle; pictures of the first versions have none."""
    return MEDIA[analysis.media].has_duration or "provenance" in analysis.record
