"""The samples of the start page: files whose truth is known, and which may be shipped with the project."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from detector.text import translatable

PORTRAIT = "skimage/data/astronaut.png"  # NASA's portrait of Eileen Collins, public domain
FOLDER = Path(__file__).parent / "sample_files"  # scripts/make_samples.py makes these files


@dataclass(frozen=True)
class Sample:
    """A file whose ground truth is known.

    Attributes:
        name: used in addresses and in the database.
        title: of its card.
        filename: name of the file, as of an upload, and in FOLDER.
        origin: one or two sentences about its origin.
    """

    name: str
    title: str
    filename: str
    origin: str


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            "real",
            translatable("A real portrait"),
            "nasa-portrait.png",
            translatable("A real photograph: NASA’s portrait of the astronaut Eileen Collins."),
        ),
        Sample(
            "fake",
            translatable("A fake of it"),
            "nasa-portrait-self-blend.png",
            translatable(
                "A fake made for this project: an altered copy of the face is blended into the NASA portrait. "
                "The network was trained on fakes of this kind."
            ),
        ),
        Sample(
            "missed",
            translatable("A fake it does not find"),
            "nasa-portrait-larger-eyes.png",
            translatable(
                "A fake made for this project: the NASA portrait with enlarged eyes. The network was not trained on "
                "such retouching and does not recognise it."
            ),
        ),
        Sample(
            "video",
            translatable("A video"),
            "nasa-portrait-camera.webm",
            translatable(
                "Made for this project: a camera moves over the real NASA portrait for six seconds. It has no sound."
            ),
        ),
        Sample(
            "voice",
            translatable("An artificial voice"),
            "formula-voice.flac",
            translatable(
                "Made for this project: a formula hums syllables. No person is speaking, and no voice was copied."
            ),
        ),
    )
}


def read_sample(name: str) -> bytes:
    """Return a sample's file."""
    if name == "real":
        return Path(str(metadata.distribution("scikit-image").locate_file(PORTRAIT))).read_bytes()
    return (FOLDER / SAMPLES[name].filename).read_bytes()
