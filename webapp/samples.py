"""Two sample pictures: a real portrait and a fake made from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PORTRAIT = "skimage/data/astronaut.png"  # NASA's portrait of Eileen Collins, public domain
FAKE = Path(__file__).parent / "sample_files" / "nasa-portrait-self-blend.png"  # scripts/make_sample_fake.py makes it


@dataclass(frozen=True)
class Sample:
    """A picture whose ground truth is known.

    Attributes:
        name: used in addresses and in the database.
        title: of its card.
        filename: name of the file, as of an upload.
        origin: a sentence about its origin.
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
            "A real portrait",
            "nasa-portrait.png",
            "A real photograph: NASA’s portrait of the astronaut Eileen Collins.",
        ),
        Sample(
            "fake",
            "A fake of it",
            "nasa-portrait-self-blend.png",
            "A fake made for this project: an altered copy of the face is blended into the NASA portrait. "
            "The network was trained on fakes of this kind.",
        ),
    )
}


def read_sample(name: str) -> bytes:
    """Return a sample's file."""
    if name == "real":
        return Path(str(metadata.distribution("scikit-image").locate_file(PORTRAIT))).read_bytes()
    return FAKE.read_bytes()
