"""Measure the predictions of the voice network's folds, and with --val the shipped network's false alarms.

    python scripts/evaluate_audio.py --run runs/voice-1234abcd
    python scripts/evaluate_audio.py --run runs/voice-1234abcd --val SPEECH.csv     # also reads the split val

Writes visualizations/voice_scores.csv, a row for each prediction, and visualizations/voice_metrics.json. These are the
AUC by generator, page and kind, and the error rates, with their n and 95% intervals (bootstrap over speakers). The
network of a prediction was trained on neither its page, nor its speaker, nor its generator (or its family of
generators). Verdicts and probabilities use a line and thresholds fitted to the other parts of the pages. With the
shipped model it also writes models/voice.reference_scores.json: how many recordings scored alike.
"""

import tyro

from detector import DetectorError
from training.voice_scoring import VoiceEvaluationSettings, evaluate_voices
from training.voice_tables import print_voice_tables


def main(argv: list[str] | None = None) -> None:
    """Evaluate the voice network."""
    settings = tyro.cli(VoiceEvaluationSettings, description=__doc__, args=argv)
    try:
        metrics = evaluate_voices(settings)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print_voice_tables(metrics)


if __name__ == "__main__":
    main()
