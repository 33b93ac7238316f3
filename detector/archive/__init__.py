"""Scan archives of any size: in chunks, resumable, on one machine or on many."""

from detector.archive.chunks import SCAN_CHUNK, scan_chunk

__all__ = ["SCAN_CHUNK", "scan_chunk"]
