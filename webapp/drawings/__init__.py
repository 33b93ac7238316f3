"""Coordinates of the drawings on the pages: plain functions from numbers to frozen dataclasses.

The templates place these values into SVG elements and compute nothing. Lengths along the width of a drawing that
adapts to the page are percentages of it (0 to 100); all other lengths are pixels, or units of the viewBox.
"""

from webapp.drawings.degraded_copies import robustness
from webapp.drawings.deletions import deletion_curves
from webapp.drawings.faces import Box, boxed_faces
from webapp.drawings.held_out_scores import histogram_position, histograms
from webapp.drawings.over_time import SHORTEST_S, format_tenths, pitch_ticks, segments, time_ticks, timeline, votes
from webapp.drawings.scales import ZONE_TITLES, band, percent, zone_of, zones

__all__ = [
    "SHORTEST_S",
    "ZONE_TITLES",
    "Box",
    "band",
    "boxed_faces",
    "deletion_curves",
    "format_tenths",
    "histogram_position",
    "histograms",
    "percent",
    "pitch_ticks",
    "robustness",
    "segments",
    "time_ticks",
    "timeline",
    "votes",
    "zone_of",
    "zones",
]
