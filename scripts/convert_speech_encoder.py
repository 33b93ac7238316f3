"""Write models/speech_encoder.npz, the pretrained part of the voice network, from the file of the package that has it.

    pip download --no-deps pipecat-ai==1.14.0 && unzip -j pipecat_ai-*.whl '*/smart-turn-v3.2-cpu.onnx'
    python scripts/convert_speech_encoder.py smart-turn-v3.2-cpu.onnx

train_audio.py reads the weights. Training leaves them as they are.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from detector import DetectorError
from training.speech_encoder import ENCODER_FILE, convert_encoder


def main(argv: list[str] | None = None) -> None:
    """Convert the weights."""

    def convert(source: tyro.conf.Positional[Path], out: Path = ENCODER_FILE) -> None:
        """Convert the weights.

        Args:
            source: Smart Turn's ONNX file.
            out: the file to write.
        """
        try:
            convert_encoder(source, out)
        except DetectorError as error:
            raise SystemExit(str(error)) from error

    tyro.cli(convert, description=__doc__, args=argv)


if __name__ == "__main__":
    main()
