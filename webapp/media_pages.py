"""What the pages know about each medium, beside the detector's own table of media."""

from __future__ import annotations

from dataclasses import dataclass

from detector.text import translatable


@dataclass(frozen=True)
class MediumPage:
    """The page and the upload limit of one medium.

    Attributes:
        template: of the page that shows a verdict.
        limit_setting: name of the setting with the largest accepted file, in megabytes.
        shared_name: stands for the file's name where its owner does not share it.
        searched_image: what a person gives to a reverse image search; empty where there is no image.
    """

    template: str
    limit_setting: str
    shared_name: str
    searched_image: str = ""


# Addresses of reverse image searches, which a person opens and gives a picture by hand; these pages send nothing there.
IMAGE_SEARCHES = (
    ("Google Images", "https://images.google.com/"),
    ("Bing", "https://www.bing.com/visualsearch"),
    ("TinEye", "https://tineye.com/"),
)
# Keyed as `detector.media.MEDIA`.
MEDIUM_PAGES = {
    "image": MediumPage("picture.html", "MAX_UPLOAD_MB", translatable("Shared picture"), "picture"),
    "video": MediumPage("video.html", "MAX_RECORDING_MB", translatable("Shared video"), translatable("still picture")),
    "audio": MediumPage("voice.html", "MAX_RECORDING_MB", translatable("Shared recording")),
}
