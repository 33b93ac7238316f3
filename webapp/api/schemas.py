"""The shapes of the API's parameters and answers, from which its OpenAPI document is made."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from detector import Verdict
from detector.media import MEDIA
from detector.results import Reason
from webapp.analyses import MAX_NAME_CHARACTERS
from webapp.api.lists import CURSOR_PATTERN
from webapp.api.tables import MAX_KEY_CHARACTERS, MAX_URL_CHARACTERS, CallState
from webapp.drawings import ZONE_TITLES
from webapp.models import MAX_ERROR_CHARACTERS, State
from webapp.outcomes import Outcome

DEFAULT_PAGE, MAX_PAGE = 20, 100
MAX_ID_CHARACTERS = 32


class DescribedSchema(Schema):
    """A schema whose docstring is its description in the OpenAPI document."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.Meta = type("Meta", (cls.Meta,), {"description": cls.__doc__})  # type: ignore[assignment, misc]


def described(text: str, **options: Any) -> dict[str, Any]:
    """Return the options of a field with a description."""
    return {"metadata": {"description": text, **options}}


def optional(text: str, **options: Any) -> dict[str, Any]:
    """Return the options of a field of an answer that may be null."""
    return {"allow_none": True, "required": True, **described(text, **options)}


def present(text: str, **options: Any) -> dict[str, Any]:
    """Return the options of a field that every answer has."""
    return {"required": True, **described(text, **options)}


def _number_list(text: str, length: int) -> fields.List:
    return fields.List(fields.Integer(), validate=validate.Length(equal=length), **present(text))


IS_VERDICT = validate.OneOf([str(verdict) for verdict in Verdict])
IS_MEDIUM = validate.OneOf(list(MEDIA))
IS_STATE = validate.OneOf([str(state) for state in State])
IS_BATCH_STATE = validate.OneOf([str(State.RUNNING), str(State.DONE)])
IS_REASON = validate.OneOf([str(reason) for reason in Reason])
IS_PROBABILITY = validate.Range(min=0, max=1)


class ProblemSchema(DescribedSchema):
    """An error, as RFC 9457 has it."""

    type = fields.String(**present("`about:blank`: the status says what kind of error it is."))
    title = fields.String(**present("The status in words."))
    status = fields.Integer(**present("The HTTP status."))
    detail = fields.String(**present("What is wrong, as a sentence."))
    errors = fields.List(fields.Dict(), **described("The refused parameters, each with `name` and `reason`."))
    rejected = fields.List(fields.Dict(), **described("The refused files, if all were refused."))


class RejectedFileSchema(DescribedSchema):
    """A file that was not accepted."""

    filename = fields.String(**present("The file's name."))
    status = fields.Integer(**present("The HTTP status that this file alone would have had."))
    detail = fields.String(**present("Why it was refused, as a sentence."))


class FileQuery(DescribedSchema):
    """Parameters of a request that sends files."""

    filename = fields.String(
        validate=validate.Length(min=1, max=1000),
        **described(f"Name of a file that is sent as the body; at most {MAX_NAME_CHARACTERS} characters are kept."),
    )
    callback_url = fields.String(
        validate=[
            validate.Length(max=MAX_URL_CHARACTERS),
            validate.Regexp(r"https?://", error="It must begin with https://."),
        ],
        **described(
            "Where to send a webhook when an analysis is over. It must begin with https:// and be public.",
            format="uri",
        ),
    )


class IdempotencyHeader(DescribedSchema):
    """The header with the idempotency key."""

    key = fields.String(
        data_key="Idempotency-Key",
        validate=[
            validate.Length(min=1, max=MAX_KEY_CHARACTERS),
            validate.Regexp(r"^[!-~]+$", error="It may have ASCII letters, digits and signs, but no spaces."),
        ],
        **described(
            "A name of your choice. The same request with the same key returns the same analyses for 24 hours."
        ),
    )


class PageQuery(DescribedSchema):
    """Which page of a list."""

    limit = fields.Integer(
        load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE), **described("How many to return.")
    )
    cursor = fields.String(
        validate=validate.Regexp(CURSOR_PATTERN, error="It is not the next_cursor of a page."),
        **described("`next_cursor` of the page before."),
    )


class ListQuery(PageQuery):
    """Parameters of a list of analyses."""

    state = fields.String(validate=IS_STATE, **described("Only analyses in this state."))
    media = fields.String(validate=IS_MEDIUM, **described("Only files of this medium."))
    verdict = fields.String(validate=IS_VERDICT, **described("Only results with this verdict."))
    batch_id = fields.String(
        data_key="batch", validate=validate.Length(max=MAX_ID_CHARACTERS), **described("Only files of this batch.")
    )


class BundleQuery(DescribedSchema):
    """Parameters of an evidence bundle."""

    original = fields.Boolean(
        load_default=True, truthy={"true"}, falsy={"false"}, **described("Whether the file itself is in it.")
    )


class BandSchema(DescribedSchema):
    """Where the probability lies among the three zones, as on the page."""

    zone = fields.String(validate=validate.OneOf(list(ZONE_TITLES)), **present("The verdict whose zone it is."))
    title = fields.String(**present("The zone's name."))
    edge = fields.String(**present("Which line it is near, in words; empty in the middle."))
    threshold_real = fields.Float(**present("Up to this probability a file leans real."))
    threshold_fake = fields.Float(**present("From this probability a file leans fake."))


class FaceSchema(DescribedSchema):
    """One face of a picture."""

    box = _number_list("x, y, width and height in pixels of the upright picture.", 4)
    crop_box = _number_list("The same of the square that the network saw.", 4)
    detection_score = fields.Float(**optional("Confidence of the face finder, from 0 to 1."))
    logit = fields.Float(**present("Raw score; positive means fake."))
    probability = fields.Float(validate=IS_PROBABILITY, **present("P(fake), from 0 to 1."))
    reasons = fields.List(fields.String(validate=IS_REASON), **present("Why the face has no part in the verdict."))
    heatmap_url = fields.String(**optional("Its heat map, a PNG over the crop box."))


class TrackSchema(DescribedSchema):
    """One person's face through a video."""

    logit = fields.Float(**present("Robust mean over the frames."))
    probability = fields.Float(validate=IS_PROBABILITY, **present("P(fake), from 0 to 1."))
    verdict = fields.String(validate=IS_VERDICT, **present("The verdict on this face."))
    votes = fields.Dict(keys=fields.String(), values=fields.Float(), **present("Proportion of frames by verdict."))
    reasons = fields.List(fields.String(validate=IS_REASON), **present("Why the verdict is inconclusive."))
    frames = fields.Integer(**present("Number of sampled frames with this face."))
    start_s = fields.Float(**present("Time of the first one in seconds."))
    end_s = fields.Float(**present("Time of the last one in seconds."))


class SegmentSchema(DescribedSchema):
    """A part of a recording and its score."""

    start_s = fields.Float(**present("Its start in seconds."))
    end_s = fields.Float(**present("Its end in seconds."))
    logit = fields.Float(**present("Raw score; positive means fake."))
    probability = fields.Float(validate=IS_PROBABILITY, **present("P(fake), from 0 to 1."))


class SoundSchema(DescribedSchema):
    """The verdict on the audio track of a video, which has no part in the video's verdict."""

    verdict = fields.String(validate=IS_VERDICT, **present("The verdict."))
    headline = fields.String(**present("The verdict in words."))
    is_checked = fields.Boolean(**present("Whether the numbers mean anything."))
    probability = fields.Float(validate=IS_PROBABILITY, **present("P(fake), from 0 to 1."))
    logit = fields.Float(**present("Raw score; positive means fake."))
    reasons = fields.List(fields.String(validate=IS_REASON), **present("Why the verdict is inconclusive."))
    segments = fields.List(fields.Nested(SegmentSchema), **present("The scored parts in the order of time."))


class ErrorRateSchema(DescribedSchema):
    """How often files of one class scored at least as wrong in our test."""

    kind = fields.String(**present("`real`: scored as high or higher; `fake`: scored as low or lower."))
    n = fields.Integer(**present("Number of tested files of this class and size."))
    share = fields.Float(**present("Proportion of them."))
    low = fields.Float(**present("Start of its 95% interval."))
    high = fields.Float(**present("End of its 95% interval."))
    min_px = fields.Integer(**present("Smallest face size of these files, in pixels."))
    max_px = fields.Integer(**optional("Their face size is below this; null means no limit."))
    unseen = fields.Boolean(**present("Whether the network had learned nothing of their kinds and sources."))
    histogram = fields.List(fields.Integer(), **present("Number of the scores in each bin."))


class ResultSchema(DescribedSchema):
    """A verdict, in numbers and in words."""

    verdict = fields.String(validate=IS_VERDICT, **present("The verdict."))
    headline = fields.String(**present("The verdict in words."))
    is_checked = fields.Boolean(
        **present("Whether anything could be checked. If false, probability and logit mean nothing.")
    )
    probability = fields.Float(
        validate=IS_PROBABILITY, **present("P(fake), from 0 to 1, if half of such files are fake.")
    )
    logit = fields.Float(**present("Raw score; positive means fake."))
    band = fields.Nested(BandSchema, **present("Where the probability lies among the three zones."))
    reasons = fields.List(fields.String(validate=IS_REASON), **present("Why the verdict is inconclusive."))
    reason_sentences = fields.List(fields.String(), **present("The same in words."))
    error_sentence = fields.String(**optional("How often such a verdict is wrong on unseen kinds."))
    how_often_wrong = fields.String(**optional("The same with the number of files it was measured on."))
    advice = fields.List(fields.String(), **present("What to do now."))
    error_rates = fields.List(fields.Nested(ErrorRateSchema), **present("How files of our test scored."))
    model_sha256 = fields.String(**present("SHA-256 of the model."))
    elapsed_ms = fields.Float(**optional("Processing time in milliseconds."))
    width_px = fields.Integer(**optional("Width of the upright picture or video."))
    height_px = fields.Integer(**optional("Its height."))
    duration_s = fields.Float(**optional("Length of a video or a recording in seconds."))
    faces = fields.List(fields.Nested(FaceSchema), **present("Faces of a picture, the most suspicious first."))
    tracks = fields.List(fields.Nested(TrackSchema), **present("Faces of a video, the most suspicious first."))
    segments = fields.List(fields.Nested(SegmentSchema), **present("Parts of a recording in the order of time."))
    sound = fields.Nested(SoundSchema, **optional("The audio track of a video."))
    robustness = fields.Dict(**optional("Scores of altered copies, once they were requested."))


class AnalysisSchema(DescribedSchema):
    """One file and its analysis."""

    id = fields.String(**present("Its name in all addresses."))
    url = fields.String(**present("Its address."))
    batch_id = fields.String(**optional("The batch it was sent in; null for a file on its own."))
    filename = fields.String(**present("The name that was sent."))
    media = fields.String(validate=IS_MEDIUM, **present("What the file is."))
    media_type = fields.String(**present("Its media type, from its bytes."))
    size_bytes = fields.Integer(**present("Its size."))
    sha256 = fields.String(**present("SHA-256 of the file."))
    state = fields.String(validate=IS_STATE, **present("Only `done` has a result."))
    progress = fields.Float(**optional("Proportion that is done, while it is running."))
    files_before = fields.Integer(**optional("Number of files before it in the queue, while it waits."))
    created_at = fields.String(**present("When it was sent.", format="date-time"))
    expires_at = fields.String(**optional("When it and its file are deleted; null for never.", format="date-time"))
    error = fields.String(
        validate=validate.Length(max=MAX_ERROR_CHARACTERS), **optional("Why it failed, as a sentence.")
    )
    result = fields.Nested(ResultSchema, **optional("The verdict, once it is done."))


class BatchSchema(DescribedSchema):
    """Several files, or a ZIP archive, that were sent in one request."""

    id = fields.String(**present("Its name in all addresses."))
    url = fields.String(**present("Its address."))
    analyses_url = fields.String(**present("The address of the list of its analyses."))
    name = fields.String(**present("The name of the ZIP archive; empty if the files have no name in common."))
    state = fields.String(validate=IS_BATCH_STATE, **present("`running` until no file waits or is being checked."))
    progress = fields.Float(validate=IS_PROBABILITY, **present("Proportion that is done."))
    files = fields.Integer(**present("Number of files, with the refused ones."))
    outcomes = fields.Dict(
        keys=fields.String(validate=validate.OneOf([str(outcome) for outcome in Outcome])),
        values=fields.Integer(),
        **present("Number of files by what became of them; refused files have `failed`."),
    )
    rejected = fields.List(fields.Nested(RejectedFileSchema), **present("The refused files."))
    created_at = fields.String(**present("When it was sent.", format="date-time"))
    expires_at = fields.String(**optional("When its files are deleted; null for never.", format="date-time"))


class BatchPageSchema(DescribedSchema):
    """A page of the list of batches."""

    batches = fields.List(fields.Nested(BatchSchema), **present("The newest first."))
    next_cursor = fields.String(**optional("Send it as `cursor` for the next page; null on the last one."))


class SubmissionSchema(DescribedSchema):
    """The answer to files that were sent."""

    batch = fields.Nested(BatchSchema, **optional("The batch of several files; null for a file on its own."))
    analyses = fields.List(fields.Nested(AnalysisSchema), **present("The accepted files in their order."))
    rejected = fields.List(fields.Nested(RejectedFileSchema), **present("The refused files."))


class PageSchema(DescribedSchema):
    """A page of a list."""

    analyses = fields.List(fields.Nested(AnalysisSchema), **present("The newest first."))
    next_cursor = fields.String(**optional("Send it as `cursor` for the next page; null on the last one."))


class CheckSchema(DescribedSchema):
    """The result of blurring the marked areas and scoring again."""

    matters = fields.Boolean(**present("Whether the score depends on the marked areas."))
    sentence = fields.String(**present("The same in words."))


class ExplanationSchema(DescribedSchema):
    """One explanation of the score of a picture's first face."""

    method = fields.String(**present("`class_map` or `lime`."))
    sentence = fields.String(**present("Where the evidence lies, in words."))
    regions = fields.List(fields.Dict(), **present("The strongest areas, in pixels of the crop."))
    size_px = fields.Integer(**present("Side of the crop that the network saw."))
    heatmap = fields.List(fields.List(fields.Float()), **optional("Values from 0 to 1; 1 is evidence of a fake."))
    heatmap_url = fields.String(**present("The same as a PNG over the crop box."))
    check = fields.Nested(CheckSchema, **optional("Whether the score depends on it; null before the check."))


class ExplanationsSchema(DescribedSchema):
    """The explanations of a picture's score."""

    explanations = fields.List(fields.Nested(ExplanationSchema), **present("Empty where nothing was checked."))
    can_be_checked = fields.Boolean(**present("Whether a check can be requested."))


class ResultsSchema(DescribedSchema):
    """All results of a batch."""

    title = fields.String(**present("The name of the ZIP archive or the folder, or the number of files."))
    exported_at = fields.String(**present("When this file was made.", format="date-time"))
    detector_version = fields.String(**present("Version of the detector."))
    counts = fields.Dict(
        keys=fields.String(), values=fields.Integer(), **present("Number of files by what became of them.")
    )
    results = fields.List(
        fields.Dict(),
        **present("The record of each file, with its `path`, `outcome`, `error` and the `id` of its analysis."),
    )


class CallSchema(DescribedSchema):
    """A webhook of an analysis."""

    id = fields.String(**present("The message's id, in the header `webhook-id`."))
    url = fields.String(**present("Where it goes."))
    state = fields.String(
        validate=validate.OneOf([str(state) for state in CallState]), **present("Whether it has arrived.")
    )
    attempts = fields.Integer(**present("How often it was sent."))
    error = fields.String(**optional("Why the last attempt failed, as a sentence."))


class CallsSchema(DescribedSchema):
    """The webhooks of an analysis."""

    webhooks = fields.List(fields.Nested(CallSchema), **present("One for each request that sent this file."))


class FigureSchema(DescribedSchema):
    """A measured figure with its 95% interval."""

    value = fields.Float(**present("The figure."))
    low = fields.Float(**optional("Start of its interval."))
    high = fields.Float(**optional("End of its interval."))
    n = fields.Integer(**optional("Number of files, or of families for a mean AUC."))


class KindSchema(DescribedSchema):
    """One kind of fakes that was left out of training."""

    kind = fields.String(**present("Its name."))
    auc = fields.Nested(FigureSchema, **optional("How well it is separated from real files: 0.5 is chance."))


class ModelSchema(DescribedSchema):
    """One model and its measured errors."""

    media = fields.String(validate=IS_MEDIUM, **present("What it scores."))
    name = fields.String(**optional("Its name."))
    sha256 = fields.String(**optional("SHA-256 of its file, the `model_sha256` of results."))
    threshold_real = fields.Float(**optional("Up to this probability a file leans real."))
    threshold_fake = fields.Float(**optional("From this probability a file leans fake."))
    measured_on = fields.String(**present("The files behind the figures."))
    measured_at = fields.String(**optional("The day of the measurement."))
    figures = fields.Dict(
        keys=fields.String(), values=fields.Nested(FigureSchema), **present("Errors on unseen kinds, by name.")
    )
    kinds = fields.List(fields.Nested(KindSchema), **present("The kinds that were left out."))
    note = fields.String(**present("What limits the figures; may be empty."))


class ModelCardSchema(DescribedSchema):
    """The models behind the verdicts."""

    version = fields.String(**present("Version of the detector."))
    intended_use = fields.String(**present("What a verdict is good for."))
    terms = fields.String(**present("The terms of the weights."))
    models = fields.List(fields.Nested(ModelSchema), **present("One for each medium."))


class HealthSchema(DescribedSchema):
    """The state of the server."""

    status = fields.String(**present("`ok`."))
    version = fields.String(**present("Version of the detector."))


FILES_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
            "description": "One or several pictures, videos, recordings or ZIP archives of them.",
        }
    },
}
