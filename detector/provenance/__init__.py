"""Read what a file states about its origin; none of it enters the score."""

from detector.provenance.findings import Provenance, read_provenance

__all__ = ["Provenance", "read_provenance"]
