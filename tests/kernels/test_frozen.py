"""The kernels against the stored values of PyRadiomics, under Triton's interpreter."""

import pytest

from reference.check import Expected, feature_misses, our_matrices, ours
from reference.frozen import digests, load
from reference.regions import Region
from tests.kernels.interpreting import serve_by_kernels

pytestmark = pytest.mark.interpreted

# Of few pixels and levels, for the interpreter is slow. Images of 8 and 16 bits, float32 and float64; boxes, masks and
# both; normalised, resegmented, weighted, of several distances; one that cannot be computed.
CHOSEN = (11, 12, 13, 20, 28, 40, 62, 107)
# Of volumes: each force2d_dimension and none, several distances, weighted, merged, resegmented, normalised; one plane;
# one that is not finite
CHOSEN_VOLUMES = (18, 38, 41, 60, 67, 74, 80)


@pytest.mark.parametrize("index", CHOSEN)
def test_frozen_region(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features as close as the CPU's must be, matrices exactly."""
    compare(*load()[index], monkeypatch, is_valid=index != 28)


@pytest.mark.parametrize("index", CHOSEN_VOLUMES)
def test_frozen_volume(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for volumes."""
    compare(*load(3)[index], monkeypatch, is_valid=index != 67)


def compare(
    region: Region, expected: Expected, digest: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, is_valid: bool
) -> None:
    serve_by_kernels(monkeypatch)
    misses = [str(miss) for miss in feature_misses(region, expected, ours(region))]
    assert not misses, "\n".join([region.describe(), *misses])
    assert (expected.invalid is None) == is_valid
    if digest:
        assert digests(our_matrices(region)) == digest, region.describe()
