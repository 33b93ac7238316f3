"""Detect deepfakes in videos: sample frames, track faces, fuse their scores."""
