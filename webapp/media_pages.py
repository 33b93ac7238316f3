"""What the pages know about each medium, beside the detector's own table of media."""

from __future__ import annotations

from dataclasses import dataclass

from detector.text import translatable
from webapp.page_files import PICTURE, SPECTROGRAM, THUMBNAIL


@dataclass(frozen=True)
class MediumPage:
    """The page and the upload limit of one medium.

    Attributes:
        template: of the page that shows a verdict.
        several: its files in words, as a heading.
        limit_setting: name of the setting with the largest accepted file, in megabytes.
        shared_name: stands for the file's name where its owner does not share it.
        shown_file: of `page_files`; stands for a result where several are listed or compared.
        shown_if: entry of the record without which there is no such file; empty: there always is one.
        searched_image: what a person gives to a reverse image search; empty where there is no image.
    """

    template: str
    several: str
    limit_setting: str
    shared_name: str
    shown_file: str
    shown_if: str = ""
    searched_image: str = ""


# Addresses of reverse image searches, which a person opens and gives a picture by hand; these pages send nothing there.
IMAGE_SEARCHES = (
    ("Google Images", "https://images.google.com/"),
    ("Bing", "https://www.bing.com/visualsearch"),
    ("TinEye", "https://tineye.com/"),
)
# Keyed as `detector.media.MEDIA`.
MEDIUM_PAGES = {
    "image": MediumPage(
        "picture.html",
        translatable("Pictures"),
        "MAX_UPLOAD_MB",
        translatable("Shared picture"),
        PICTURE,
        searched_image="picture",
    ),
    "video": MediumPage(
        "video.html",
        translatable("Videos"),
        "MAX_RECORDING_MB",
        translatable("Shared video"),
        THUMBNAIL,
        shown_if="tracks",
        searched_image=translatable("still picture"),
    ),
    "audio": MediumPage(
        "voice.html",
        translatable("Recordings"),
        "MAX_RECORDING_MB",
        translatable("Shared recording"),
        SPECTROGRAM,
        shown_if="segments",
    ),
}
