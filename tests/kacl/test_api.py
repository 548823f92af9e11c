"""The names of `kacl_gpu.kacl`, and the examples that use them."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import kacl_gpu.kacl
from kacl_gpu.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "byop_in_your_model.py"


@pytest.mark.parametrize("name", kacl_gpu.kacl.__all__)
def test_each_name_has_an_example_or_fields(name: str) -> None:
    pytest.importorskip("lightning")
    value = getattr(kacl_gpu.kacl, name)
    assert name in dir(kacl_gpu.kacl)
    assert ">>> " in str(value.__doc__) or name in ("Positives", "ChestXrays", "NIHChestXray14")


def test_what_is_no_name() -> None:
    with pytest.raises(AttributeError, match=r"module 'kacl_gpu\.kacl' has no attribute 'KALC'"):
        _ = kacl_gpu.kacl.KALC


def test_byop_and_the_losses_load_no_extra() -> None:
    """Who trains a network of his own has torch, and need not have Lightning, torchvision or pandas."""
    code = "import sys; from kacl_gpu.kacl import BYOP, contrastive_loss, focal_loss, head_cam, FeatureNormaliser; "
    code += "print({'lightning', 'torchvision', 'pandas', 'timm', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    variables = runpy.run_path(str(EXAMPLE))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.endswith(" 8 images with radiomic features") for line in lines)
    assert variables["contrast"].anchors == 8 and variables["loss"].isfinite()
    assert all(parameter.grad is not None for parameter in variables["project_features"].parameters())


def test_the_example_refuses_another_network(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    text = EXAMPLE.read_text()
    assert '"resnet18"' in text
    (tmp_path / "example.py").write_text(text.replace('"resnet18"', '"convnext_atto"'))
    with pytest.raises(InputError, match=r"the closed form of Grad-CAM needs .* compute heatmaps of your own"):
        runpy.run_path(str(tmp_path / "example.py"))
