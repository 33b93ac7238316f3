"""Make the files that the start page offers as samples, from NASA's portrait and by a formula.

python scripts/make_samples.py
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

from detector.media import encode_png, read_image
from training.samples import encode_sound, encode_video, enlarge_eyes, pan_over, speak
from training.synthesis import make_sample_fake

OUT = Path(__file__).resolve().parents[1] / "webapp" / "sample_files"
PORTRAIT = "skimage/data/astronaut.png"  # NASA's portrait of Eileen Collins, public domain
BLEND_SEED = 3  # selected by eye, not by score: only the face differs from the portrait
VOICE_SEED = 4
VIDEO_FRAMES, VIDEO_SIZE_PX = 60, (480, 360)
VOICE_S = 6.0


def main() -> None:
    """Write the files of the samples."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    portrait = read_image(str(metadata.distribution("scikit-image").locate_file(PORTRAIT)))
    for name, data in (
        ("nasa-portrait-self-blend.png", encode_png(make_sample_fake(portrait, BLEND_SEED))),
        ("nasa-portrait-larger-eyes.png", encode_png(enlarge_eyes(portrait))),
        ("nasa-portrait-camera.webm", encode_video(pan_over(portrait, VIDEO_FRAMES, size_px=VIDEO_SIZE_PX))),
        ("formula-voice.flac", encode_sound(speak(VOICE_S, VOICE_SEED))),
    ):
        (OUT / name).write_bytes(data)
        print(f"wrote {OUT / name}")


if __name__ == "__main__":
    main()
