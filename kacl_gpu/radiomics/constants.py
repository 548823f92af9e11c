"""Numbers that the CPU and the kernels must agree on."""

EPS = 2.0**-52  # numpy.spacing(1.0), which PyRadiomics adds inside logarithms and under divisions
TILE = 1024  # pixels; each region's block of a packed buffer begins at a multiple of it
MAX_LEVELS = 2**15 - 1  # as many grey levels as int16 holds
MAX_NARROW_LEVELS = 2**8 - 1  # as many as uint8 holds
FIXED_POINT = 2.0**20  # steps per unit in which totals of components are summed, in any order
