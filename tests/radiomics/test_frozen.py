"""Ours against the stored values of PyRadiomics: holds where PyRadiomics does not install."""

import numpy as np
import pytest

from kacl_gpu import feature_names
from reference.check import Expected, feature_misses, our_matrices, ours
from reference.frozen import PATH, REGIONS, digests, load
from reference.regions import Region
from reference.tolerance import deviations

FROZEN = load()


def test_file_is_small_and_complete() -> None:
    assert len(FROZEN) == REGIONS
    assert sum(expected.invalid is None for _, expected, _ in FROZEN) > 0.6 * REGIONS
    assert PATH.stat().st_size < 500_000


def test_tolerances_tell_values_apart() -> None:
    """Twice the relative tolerance is a miss wherever a feature is not near zero, and so is NaN beside a number."""
    names = feature_names()
    noticed = np.zeros(len(names), bool)
    for _, expected, _ in FROZEN:
        far = deviations(names, expected.values * (1 + 2e-6), expected.values, expected.scale)
        noticed |= far > 1
        near_zero = ~(abs(expected.values) > 0.01 + 1e-6 * expected.scale)
        assert ((far > 1) | near_zero).all()
        assert (deviations(names, expected.values, expected.values, expected.scale) == 0).all()
        numbers = np.isfinite(expected.values)
        assert (
            deviations(names, np.full(len(names), np.nan), expected.values, expected.scale)[numbers] == np.inf
        ).all()
    assert noticed.all()


@pytest.mark.parametrize("index", range(REGIONS))
def test_frozen_region(index: int) -> None:
    region: Region
    expected: Expected
    region, expected, digest = FROZEN[index]
    misses = [str(miss) for miss in feature_misses(region, expected, ours(region))]
    assert not misses, "\n".join([region.describe(), *misses])
    if digest:
        assert digests(our_matrices(region)) == digest, region.describe()
