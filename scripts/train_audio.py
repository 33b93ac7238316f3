"""Train the voice network on a manifest of recordings, calibrate it, and write models/voice.h5 and models/voice.onnx.

    python scripts/train_audio.py --manifest SPEECH.csv                # as for the shipped network
    python scripts/train_audio.py --manifest SPEECH.csv --versions 8   # more degradations
    python scripts/train_audio.py --manifest SPEECH.csv --tests 1      # each tested in one degradation only
    python scripts/train_audio.py --manifest SPEECH.csv --copies 0.05  # with copies by vocoders

The manifest has the columns path, label (1 = fake), split, source, generator and speaker. It may have the column page,
where a recording was published. Only its `train` recordings are read. The network's fixed filters measure every
recording, its vocoder copies and their degradations once. The results stay in the run's folder: the same command
continues a run that was stopped. The head is fitted by least squares, which takes seconds.

Every fold therefore has its own network. A fold tests one page. Its network is trained on the recordings that share
neither page nor speaker with the page's, without the fakes by its generators. The same is done without the whole
families of those generators, which is harder. Without a column page each speaker is a page. Line and thresholds are
fitted to the predictions for families, since the next voice and the next generator will be new to the shipped network.
scripts/evaluate_audio.py measures the predictions.
"""

import os

import tyro

from detector import DetectorError
from training.voice_fitting import VoiceTrainingSettings, train_voice_network


def main(argv: list[str] | None = None) -> None:
    """Train the voice network."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported, which happens later
    settings = tyro.cli(VoiceTrainingSettings, description=__doc__, args=argv)
    try:
        run = train_voice_network(settings)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"next: python scripts/evaluate_audio.py --run {run} --val {settings.manifest}")


if __name__ == "__main__":
    main()
