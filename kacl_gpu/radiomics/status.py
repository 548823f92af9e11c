"""Why a region cannot be computed."""

from enum import IntEnum


class Status(IntEnum):
    """One code a region; 0 is fine. The operators write them, :mod:`kacl_gpu.radiomics.regions` words them."""

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
