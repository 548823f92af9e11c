"""``kacl-gpu fit``: train KACL. Its parser is Lightning's, made in `kacl_gpu.kacl.training.fit`."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Train; return the exit status."""
    from kacl_gpu.kacl.training.fit import fit

    fit(argv)
    return 0
