"""Memory of large pictures, given back to the system."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 4 * 2**20
MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h


def return_large_buffers() -> None:
    """Have this process give each buffer of LARGE_BYTES or more back to the system as soon as it is freed.

    By default glibc raises this limit to 32 MB as buffers are freed, and every thread that decoded a large picture then
    keeps up to three of Pillow's blocks of 16 MB. Other C libraries have no such setting, and nothing is changed there.
    """
    process = ctypes.CDLL(None)
    if hasattr(process, "mallopt"):
        process.mallopt(MMAP_THRESHOLD, LARGE_BYTES)
