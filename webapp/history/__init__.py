"""The history: all results of a visitor, to search, delete, repeat and compare."""
