"""The examples in the package's docstrings run and print what they say."""

import doctest
import re
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kacl_gpu
from tests.package.test_imports import TEXTS

WITH_EXAMPLES = sorted(name for name, text in TEXTS.items() if ">>> " in text)
EXTRAS = {"matplotlib", "pandas", "PIL", "pyarrow", "pydicom", "yaml", "tqdm", "triton", "lightning", "jsonargparse"}
EXTRAS |= {"markdown", "jinja2", "pycocotools", "sklearn", "scipy", "tensorboard", "torchmetrics", "torchvision"}
EXTRAS |= {"SimpleITK", "timm"}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a folder of images that examples share."""
    from kacl_gpu.kacl.data.phantom import make_phantoms

    folder = tmp_path_factory.mktemp("examples") / "phantoms"
    make_phantoms(folder, images=60, size=32, seed=0, boxed=1.0, workers=1)
    return folder


@pytest.fixture(scope="session")
def settings(phantoms: Path) -> list[str]:
    """Return the arguments of a short training on them."""
    return [
        f"--data.root={phantoms}", "--data.size=32", "--data.batch_size=8", "--data.workers=0", "--model.weights=null",
        "--model.byop=false", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false",
        "--panels_every=0",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def checkpoint(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of a network that learnt nothing from them."""
    from tests.kacl.evaluating import untrained

    return untrained(tmp_path_factory.mktemp("run") / "last.ckpt", phantoms, size=32)


SHARED = ("phantoms", "settings", "checkpoint")  # fixtures that examples may name


def shared_by(module: ModuleType, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the examples of a module name without defining it."""
    sources = " ".join(example.source for test in doctest.DocTestFinder().find(module) for example in test.examples)
    named = [name for name in SHARED if re.search(rf"\b{name}\b(?! =)(?!=)", sources)]
    return {name: request.getfixturevalue(name) for name in named if f"{name} = " not in sources}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in EXTRAS:
            raise
        pytest.skip(f"{error.name} is not installed")
    with warnings.catch_warnings():
        result = doctest.testmod(module, optionflags=OPTIONS, extraglobs=shared_by(module, request))
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
