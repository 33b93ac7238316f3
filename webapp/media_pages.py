"""What the pages know about each medium, beside the detector's own table of media."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediumPage:
    """The page and the upload limit of one medium.

    Attributes:
        template: of the page that shows a verdict.
        limit_setting: name of the setting with the largest accepted file, in megabytes.
    """

    template: str
    limit_setting: str


# Keyed as `detector.media.MEDIA`.
MEDIUM_PAGES = {
    "image": MediumPage("picture.html", "MAX_UPLOAD_MB"),
    "video": MediumPage("video.html", "MAX_RECORDING_MB"),
    "audio": MediumPage("voice.html", "MAX_RECORDING_MB"),
}
