"""Time every stage from a file to a verdict, uploads, the server's start and memory, and the student projects' way.

    python scripts/benchmark.py
    python scripts/benchmark.py --rounds 100 --threads 1
    python scripts/benchmark.py --recordings CLIP.mp4 VOICE.wav        # instead of those made on the spot

The picture is a 1-megapixel JPEG with one face. The video has 10 s of 1080p in which the face moves, with sound; the
recording is a minute of tones. All are made on the spot. The student projects' way is copied exactly: open the file,
shrink the whole picture to the network's input, `keras.Model.predict`, no face finding. The project's stages are timed
before TensorFlow is loaded, as in the server. For the ratios both ways take turns in one process, so that they hold on
a machine whose speed drifts.

An upload is timed over HTTP against a warm gunicorn worker with as many threads. The time runs from the request to the
redirect that follows the commit of the verdict. It takes turns with `Detector.detect` on the same bytes in this
process. Every turn waits until the server is idle, so work that the server does after its answer is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.benchmarks import BenchmarkOptions, benchmark


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    benchmark(tyro.cli(BenchmarkOptions, args=arguments, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))


if __name__ == "__main__":
    main()
