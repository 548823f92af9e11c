"""The status of a region: why it cannot be computed, as a code and in words."""

from __future__ import annotations

import re
from enum import IntEnum


class Status(IntEnum):
    """One code per region; 0 is a region that can be computed.

    The operators write the codes, ``gpu_radiomics(..., return_status=True)`` returns them.

    Example:
        >>> Status(6).name, Status(6).words
        ('SINGLE_PIXEL', 'it is a single pixel')
        >>> Status.OK.words
        ''
    """

    OK = 0
    IMAGE_INDEX = 1
    BOX_NOT_FINITE = 2
    BOX_INVERTED = 3
    BOX_OUTSIDE = 4
    EMPTY = 5
    SINGLE_PIXEL = 6
    TOO_FEW_DIMENSIONS = 7
    TOO_SMALL = 8
    RESEGMENTED_AWAY = 9
    DISTANCES = 10
    NOT_FINITE = 11
    TOO_MANY_LEVELS = 12
    TOO_NARROW = 13
    SPACING = 14
    TOO_LARGE = 15

    @property
    def words(self) -> str:
        """Return the reason in words; empty for OK."""
        return re.sub(r"\[.*?\]", "", _TEMPLATES[self])

    def detailed(self, **facts: object) -> str:
        """Return the reason with the facts of a call: the sizes, settings and labels that its template names."""
        return re.sub(r"[\[\]]", "", _TEMPLATES[self]).format(**facts)


# The parts in brackets hold facts of a call
_TEMPLATES = {
    Status.OK: "",
    Status.IMAGE_INDEX: "the image index is not one of 0 ...[ {last_image}]",
    Status.BOX_NOT_FINITE: "the box is not finite",
    Status.BOX_INVERTED: "the box is empty or inverted, expected x2 > x1 and y2 > y1[{and_z}]",
    Status.BOX_OUTSIDE: "the box lies outside its image[ of {extent} ({sides})]",
    Status.EMPTY: "no pixel of label[ {label}] in it[{others}]",
    Status.SINGLE_PIXEL: "it is a single pixel",
    Status.TOO_FEW_DIMENSIONS: "it extends over fewer than minimum_roi_dimensions[ = {s.minimum_roi_dimensions}]",
    Status.TOO_SMALL: "it has no more pixels than minimum_roi_size[ = {s.minimum_roi_size}]",
    Status.RESEGMENTED_AWAY: "resegment_range[ = {s.resegment_range}] leaves fewer than two pixels of it",
    Status.DISTANCES: "every one of distances[ = {s.distances}] reaches beyond it",
    Status.NOT_FINITE: "it holds NaN or infinite intensities",
    Status.TOO_MANY_LEVELS: "it needs too many grey levels[: more than {max_levels} grey levels]; widen the bins, "
    "or raise max_levels or memory_limit",
    Status.TOO_NARROW: "float64 cannot tell its bins apart[: bin_count = {s.bin_count}, bin_width = {s.bin_width}]",
    Status.SPACING: "the spacing of its image is not finite and above 0",
    Status.TOO_LARGE: "its box is larger than max_region[ = {s.max_region}]",
}
