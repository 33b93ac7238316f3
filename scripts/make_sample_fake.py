"""Make the fake that the start page offers as a sample: the NASA portrait with a self-blended face.

python scripts/make_sample_fake.py
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

from detector.media import encode_png, read_image
from training.synthesis import make_sample_fake

OUT = Path(__file__).resolve().parents[1] / "webapp" / "sample_files" / "nasa-portrait-self-blend.png"
PORTRAIT = "skimage/data/astronaut.png"  # NASA's portrait of Eileen Collins, public domain
SEED = 3  # selected by eye, not by score: only the face differs from the portrait


def main() -> None:
    """Write the file of the sample."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    portrait = read_image(str(metadata.distribution("scikit-image").locate_file(PORTRAIT)))
    OUT.write_bytes(encode_png(make_sample_fake(portrait, SEED)))
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
