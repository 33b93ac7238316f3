"""Videos: sample frames, track faces, fuse their scores."""
