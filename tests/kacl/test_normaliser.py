"""The normaliser of radiomic features against NumPy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.io.folders import find_images
from kacl_gpu.io.pictures import read_image
from kacl_gpu.kacl.normaliser import FeatureNormaliser
from tests.kacl.rows import batches


def plain(history: list[Tensor], rows: Tensor, horizon: float = np.inf) -> np.ndarray:
    """Return the normaliser's definition.

    Each row counts with a weight that fades when the weights would pass the horizon.
    """
    log = [np.sign(x) * np.log1p(np.abs(x)) for x in (b.numpy() for b in history)]
    out = np.zeros((len(rows), rows.shape[1] + 1))
    for f in range(rows.shape[1]):
        values, weights = np.zeros(0), np.zeros(0)
        for batch in log:
            new = batch[np.isfinite(batch[:, f]), f]
            values, weights = np.append(values, new), np.append(weights, np.ones(len(new)))
            if weights.sum() > horizon:
                weights *= horizon / weights.sum()
        mean = np.average(values, weights=weights)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=weights))
        for k, x in enumerate(rows[:, f].tolist()):
            if np.isfinite(x):
                out[k, f] = np.clip((np.sign(x) * np.log1p(abs(x)) - mean) / deviation, -10, 10)
            else:
                out[k, -1] += 1 / rows.shape[1]
    return out


@pytest.mark.parametrize("horizon", [1e9, 15, 2])
def test_the_normaliser_is_its_definition(horizon: float) -> None:
    module = FeatureNormaliser(5, horizon=horizon)
    assert module.out_features == 6
    seen: list[Tensor] = []
    for batch in batches(0):
        seen.append(batch)
        found = module(batch)
        np.testing.assert_allclose(found.numpy(), plain(seen, batch, horizon), rtol=1e-9, atol=1e-9)
        assert torch.equal(module.eval()(batch), found)  # one map, and evaluation learns nothing
        assert torch.equal(module.train().count.clamp(max=horizon), module.count)
    assert found[1].tolist() == [0] * 5 + [1]
    assert found[3, 2] == 0 and found[3, -1] == pytest.approx(1 / 5)
    other = FeatureNormaliser(5)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(batch), found)
    # a row does not depend on the others, nor on how many there are
    assert torch.equal(module.eval()(batch[4:5]), found[4:5])


def test_statistics_keep_their_dtype() -> None:
    normaliser = FeatureNormaliser(3)
    normaliser(torch.tensor([[1.0, 2, 3], [1.1, 2.2, 3.3]]))
    mean = normaliser.mean.clone()
    for convert in ("half", "bfloat16", "float"):
        getattr(normaliser, convert)()
        assert torch.equal(normaliser.mean, mean) and normaliser.mean.dtype == torch.float64
    assert normaliser.to("meta", torch.float16).squares.device.type == "meta"


def test_degenerate_features() -> None:
    module = FeatureNormaliser(4, limit=3)
    x = torch.zeros(1000, 4)
    x[:, 0] = 12345.678
    x[:, 1] = 12345.678 * (1 + torch.randn(1000) * 1e-7)  # constant but for the last bit of a float32
    x[:, 2] = torch.linspace(0, 1e-8, 1000)  # small, and not constant
    x[0, 3] = 1e8  # one wild value
    found = module(x)
    assert (found[:, [0, 1]] == 0).all() and x[:, 1].std() > 0
    assert found[:, 2].std(correction=0) == pytest.approx(1, abs=1e-4)
    assert found[0, 3] == 3 and found[:, 3].abs().max() == 3
    assert (module.eval()(torch.full((1, 4), 1e30)).abs() <= 3).all()


def test_the_normaliser_before_any_valid_row() -> None:
    module = FeatureNormaliser(3)
    nothing = torch.tensor([[0.0, 0, 0, 1]]).expand(2, 4)
    assert torch.equal(module(torch.full((2, 3), torch.nan)), nothing)
    assert torch.equal(module.eval()(torch.ones(1, 3)), torch.zeros(1, 4))
    assert module.state_dict().keys() == {"count", "mean", "squares"}


def test_what_the_normaliser_refuses() -> None:
    for wrong in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3).int()):
        with pytest.raises(ValueError, match=r"features must be floating \(K, 3\), got torch"):
            FeatureNormaliser(3)(wrong)
    for arguments in ((0,), (3, 0), (3, 10, -1)):
        with pytest.raises(ValueError, match="not positive"):
            FeatureNormaliser(*arguments)


def test_no_value_goes_to_the_host() -> None:
    with FakeTensorMode(), torch.device("cuda"):
        module, rows = FeatureNormaliser(7), torch.empty(4, 7)
        assert module(rows).device.type == "cuda"
        torch._dynamo.reset()
        assert torch.compile(module, fullgraph=True, backend="eager")(rows).shape == (4, 8)


def test_radiomic_features_of_real_images() -> None:
    folder = os.environ.get("KACL_GPU_DATA")
    if not folder:
        pytest.skip("KACL_GPU_DATA does not name a folder of real X-rays")
    files = list(find_images(Path(folder, "nih_mini")).values())[:24]
    images = torch.stack([torch.from_numpy(np.array(read_image(file)[0])) for file in files])
    corner = torch.arange(24)[:, None] * torch.tensor([4, 3])
    boxes = torch.cat([corner, corner + 60 + corner.flip(0)], 1).float()
    boxes[5] = 0  # an empty box
    features = gpu_radiomics(images, boxes, settings=RadiomicsSettings(bin_count=32), invalid="nan")
    found = FeatureNormaliser(features.shape[1])(features)
    valid = torch.arange(24) != 5
    assert found[5].tolist() == [0] * 102 + [1]
    # every feature tells something, and none dominates
    torch.testing.assert_close(found[valid, :-1].std(0, correction=0), torch.ones(102), rtol=0, atol=1e-4)
    assert found[:, :-1].mean(0).abs().max() < 1e-5 and found.abs().max() < 10
