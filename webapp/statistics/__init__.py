"""Statistics of results: of one visitor's, and of all for the operator."""
