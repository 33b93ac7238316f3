"""Pictures: find faces, check their quality, score them."""
