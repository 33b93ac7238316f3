"""Voice recordings: windows, spectrograms, scores."""
