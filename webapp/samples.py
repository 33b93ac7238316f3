"""Two pictures for somebody who has none at hand: a real portrait and our own fake of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import detector
from webapp.instance import write_whole

PORTRAIT = "skimage/data/astronaut.png"  # NASA's portrait of Eileen Collins, public domain
FAKE_SEED = 3  # chosen by eye, not by score: only the face differs from the portrait


@dataclass(frozen=True)
class Sample:
    """A picture we know the truth about.

    Attributes:
        name: in addresses and in the database.
        title: on its button.
        filename: as if somebody had uploaded it.
        origin: what it is, as a sentence.
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
            "A fake of our own making: the NASA portrait with an altered copy of the face blended into it.",
        ),
    )
}


def read_sample(name: str, folder: Path) -> bytes:
    """Return a sample's file; the fake is made when it is first asked for and kept in `folder`."""
    portrait = metadata.distribution("scikit-image").locate_file(PORTRAIT)
    if name == "real":
        return portrait.read_bytes()
    path = folder / "samples" / f"self-blend-{FAKE_SEED}.png"
    if not path.exists():
        write_whole(path, detector.encode_png(detector.make_sample_fake(detector.read_image(portrait), FAKE_SEED)))
    return path.read_bytes()
