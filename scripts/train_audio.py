"""Train the voice network on a manifest of recordings, calibrate it, and write models/voice.h5 and models/voice.onnx.

    python scripts/train_audio.py --manifest SPEECH.csv
    python scripts/train_audio.py --manifest SPEECH.csv --versions 8        # more degradations of each recording

The manifest has the columns path, label (1 = fake), split, source, generator and speaker; only its `train` recordings
are read. The network's fixed filters measure every recording, its vocoder copies and their degradations once. The
results stay in the run's folder: the same command continues a run that was stopped. The trained weights are a logistic
regression, which takes seconds.

Every fold therefore has its own network. The speakers are split into five parts. For each part and each generator with
fakes in the part, a network is trained on the other parts without that generator. The network then predicts the
generator's fakes in the part and all reals in the part: no speaker and no generator is on both sides. The same is done
with whole families of generators, which is harder. Line and thresholds are fitted to the predictions for families,
since the next voice and the next generator will be new to the shipped network. scripts/evaluate_audio.py measures the
predictions.
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
