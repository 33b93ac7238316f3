"""Links with which a visitor shows one result to others."""
