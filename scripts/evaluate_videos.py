"""Score labelled videos, and tracks put together from single frames, as the server would.

    python scripts/evaluate_videos.py --clips CLIPS.csv --faces FACES.csv
    python scripts/evaluate_videos.py --clips CLIPS.csv --faces FACES.csv --fold-models "FOLDER/fold-{fold}.onnx"
    python scripts/evaluate_videos.py --clips CLIPS.csv --scores visualizations/unseen_scores.csv

CLIPS.csv has the columns path, label (1 = fake), source, generator and group. A clip goes through the whole chain.
Three or more pictures of one group in FACES.csv that are frames of a video are fused as the frames of one track would
be. Their kinds are video frame, swap and talking head. Writes visualizations/video_scores.csv, a row for each clip and
track, and visualizations/video_metrics.json, the rates with their n and 95% intervals over groups. Also prints what
thresholds chosen on the tracks of other sources would change. --fold-models names the networks that did not learn from
the fold in their name; --scores takes the pictures' scores by such networks from a file. Tables and page count the
videos of sources that the network had not learned from.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.video_scoring import VideoEvaluationOptions, evaluate_videos


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    evaluate_videos(tyro.cli(VideoEvaluationOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
