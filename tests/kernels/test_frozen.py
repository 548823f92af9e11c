"""The kernels against the stored values of PyRadiomics, under Triton's interpreter."""

import pytest

from reference.check import feature_misses, our_matrices, ours
from reference.frozen import digests, load
from tests.kernels.interpreting import serve_by_kernels

pytestmark = pytest.mark.interpreted

# Of few pixels and levels, for the interpreter is slow. Images of 8 and 16 bits, float32 and float64; boxes, masks and
# both; normalised, resegmented, weighted, of several distances; one that cannot be computed.
CHOSEN = (11, 12, 13, 20, 28, 40, 62, 107)


@pytest.mark.parametrize("index", CHOSEN)
def test_frozen_region(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features as close as the CPU's must be, matrices exactly."""
    region, expected, digest = load()[index]
    serve_by_kernels(monkeypatch)
    misses = [str(miss) for miss in feature_misses(region, expected, ours(region))]
    assert not misses, "\n".join([region.describe(), *misses])
    assert (expected.invalid is None) == (index != 28)
    if digest:
        assert digests(our_matrices(region)) == digest, region.describe()
