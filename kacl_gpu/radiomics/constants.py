"""Numbers that the CPU and the kernels must agree on."""

EPS = 2.0**-52  # numpy.spacing(1.0), which PyRadiomics adds inside logarithms and under divisions
TILE = 1024  # pixels; each region's block of a packed buffer begins at a multiple of it
MAX_LEVELS = 2**15 - 1  # as many grey levels as int16 holds
MAX_NARROW_LEVELS = 2**8 - 1  # as many as uint8 holds
FIXED_POINT = 2.0**20  # steps per unit in which totals of components are summed, in any order


def small_zones(pixels: int, ng: int) -> int:
    """Return the size below which kernels count zones in a table, in place of sorting them.

    The table has a row for each size, so it is longer where a region may have very many zones.

    Args:
        pixels: of a region.
        ng: grey levels.
    """
    return 1024 if pixels >= 2**22 and ng <= MAX_NARROW_LEVELS else 64
