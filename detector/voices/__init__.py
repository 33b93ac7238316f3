"""Voice recordings: windows, spectrograms, quality gate, scores."""
