"""Ours against PyRadiomics on as many generated regions as asked: ``python -m reference.fuzz --regions N --seed S``."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter, defaultdict

import numpy as np
import SimpleITK as sitk

from reference.check import definition_misses, definition_row, expect, feature_misses, matrix_misses, names_of, ours
from reference.regions import seeded, seeded_volume
from reference.tolerance import deviations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.fuzz", description=__doc__)
    parser.add_argument("--regions", type=int, default=2000, metavar="N", help="how many regions (default 2000)")
    parser.add_argument("--seed", type=int, metavar="S", help="drawn and printed if left out")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="index to begin at: one miss again")
    parser.add_argument("--volumes", action="store_true", help="regions of volumes instead of images")
    parser.add_argument("--definition", action="store_true", help="PyRadiomics against the definition, without ours")
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the images are tiny
    print(f"seed {seed}, NumPy {np.__version__}", flush=True)

    counts: Counter[str] = Counter()
    undefined: Counter[str] = Counter()
    worst: defaultdict[str, float] = defaultdict(float)
    missed = 0
    began = time.perf_counter()
    for index in range(options.first, options.first + options.regions):
        region = (seeded_volume if options.volumes else seeded)(seed, index)
        expected = expect(region)
        counts["invalid" if expected.invalid is not None else "computed"] += 1
        if options.definition:
            row = definition_row(region, expected)
            misses = feature_misses(region, expected, row) + definition_misses(region, expected)
        else:
            row = ours(region)
            misses = feature_misses(region, expected, row) + matrix_misses(region, expected)
        if expected.invalid is None:
            names = names_of(region)
            undefined.update(set(expected.undefined.values()))
            far = deviations(names, row, expected.values, expected.scale)
            for name, deviation in zip(names, far, strict=True):
                worst[name.split("_")[1]] = max(worst[name.split("_")[1]], float(deviation))
        if misses:
            missed += 1
            again = f"--seed {seed} --first {index} --regions 1{' --volumes' * options.volumes}"
            print(f"\nregion {index} of seed {seed} ({again}): {region.kind}")
            for miss in misses:
                print(f"  {miss}")
            print(f"  {region.describe()}", flush=True)

    print(f"\n{sum(counts.values())} regions in {time.perf_counter() - began:.0f} s: {dict(counts)}")
    print("largest deviation, in tolerances: " + ", ".join(f"{name} {value:.2g}" for name, value in worst.items()))
    for what, count in undefined.most_common():
        print(f"  {count} regions with features compared with the definition: {what}")
    print(f"{missed} regions missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
