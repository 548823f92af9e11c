"""The examples in the package's docstrings run and print what they say."""

import doctest
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import kacl_gpu
from tests.package.test_imports import TEXTS

WITH_EXAMPLES = sorted(name for name, text in TEXTS.items() if ">>> " in text)
EXTRAS = {"matplotlib", "pandas", "PIL", "pyarrow", "pydicom", "yaml", "tqdm", "triton", "lightning", "jsonargparse"}
EXTRAS |= {"markdown", "jinja2", "pycocotools", "sklearn", "scipy", "tensorboard", "torchmetrics", "torchvision"}
EXTRAS |= {"SimpleITK", "timm"}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in EXTRAS:
            raise
        pytest.skip(f"{error.name} is not installed")
    with warnings.catch_warnings():
        result = doctest.testmod(module, optionflags=OPTIONS)
    assert result.attempted > 0
    assert result.failed == 0, "the output above shows which"


def test_a_wrong_example_is_seen() -> None:
    def example() -> None:
        """
        >>> 1 + 1
        3
        """

    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    (test,) = doctest.DocTestFinder().find(example, "wrong")
    assert runner.run(test, out=lambda _: None).failed == 1


@pytest.mark.parametrize("name", sorted(set(kacl_gpu.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in str(getattr(kacl_gpu, name).__doc__)
