"""The files that CONTRIBUTING.md and docs/architecture.md name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RADIOMICS = ROOT / "kacl_gpu" / "radiomics"
HOMES = (ROOT, ROOT / "kacl_gpu", RADIOMICS, RADIOMICS / "cpu", ROOT / "tests" / "kernels", ROOT / "docs")


def named_files(text: str) -> set[str]:
    """Return the paths between backticks that end like a file and have no placeholder."""
    return set(re.findall(r"`([\w./]+\.(?:py|md))`", text))


def missing_paths(text: str) -> list[str]:
    return sorted(name for name in named_files(text) if not any((home / name).exists() for home in HOMES))


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(named_files(text)) > 10
    assert missing_paths(text) == []


def test_a_file_that_is_gone_is_seen() -> None:
    assert missing_paths("see `cpu/_sums.py`, `gone.py` and `kernels/<operator>.py`") == ["gone.py"]
