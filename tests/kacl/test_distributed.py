"""Two processes against one: batch normalisation, and the statistics of radiomic features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from kacl_gpu.kacl.byop import control_features
from kacl_gpu.kacl.distributed import SynchronisedBatchNorm2d, synchronise_batchnorm
from kacl_gpu.kacl.encoders import ImageEncoder
from kacl_gpu.kacl.normaliser import FeatureNormaliser
from tests.kacl.rows import batches


def inputs() -> dict[str, Tensor]:
    generator = torch.manual_seed(4)
    shape = (6, 3, 5, 4)
    return {
        "x": torch.randn(shape, generator=generator) * 3 + 20,
        "cotangent": torch.randn(shape, generator=generator),
        "second": torch.randn(shape, generator=generator),
    }


def normalise_batches(module: nn.BatchNorm2d, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two batches through a module, and the gradients of the first."""
    with torch.no_grad():
        if module.affine:
            module.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
            module.bias.copy_(torch.tensor([0.1, -3.0, 0.0]))
    x = data["x"].clone().requires_grad_()
    out = module(x)
    (out * data["cotangent"]).sum().backward()
    result = {"out": out.detach(), "gradient": torch.as_tensor(x.grad), "second": module(data["second"]).detach()}
    result |= {f"gradient of {key}": torch.as_tensor(p.grad) for key, p in module.named_parameters()}
    result |= {f"state {key}": value for key, value in module.state_dict().items()}
    return result | {"evaluation": module.eval()(data["x"]).detach()}


MODULES: dict[str, dict[str, Any]] = {
    "default": {},
    "cumulative": {"momentum": None, "eps": 1e-3},
    "bare": {"affine": False, "track_running_stats": False},
}


def one_of_two(rank: int, folder: str) -> None:
    """Run what each process does with its part: 4 images of 6, or 2; 11 rows of features, or 8."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = slice(0, 4) if rank == 0 else slice(4, 6)
    data = {key: value[part] for key, value in inputs().items()}
    results: dict[str, Any] = {}
    for name, options in MODULES.items():
        module = synchronise_batchnorm(nn.BatchNorm2d(3, **options))
        assert type(module) is SynchronisedBatchNorm2d
        results[name] = normalise_batches(module, data)
    rough = synchronise_batchnorm(nn.BatchNorm2d(3))(data["x"].bfloat16())
    assert rough.dtype == torch.bfloat16
    results["rough"] = rough.float()
    normaliser = FeatureNormaliser(5, horizon=20)
    rows = torch.cat(batches(5)), torch.cat(batches(6))
    results["features"] = [normaliser(x[:11] if rank == 0 else x[11:]) for x in rows]
    results["statistics"] = normaliser.state_dict()
    half = slice(rank * 6, rank * 6 + 6)
    results["shuffled"] = shuffle(half)
    torch.save(results, f"{folder}/{rank}.pth")
    dist.destroy_process_group()


def shuffle(part: slice) -> Tensor:
    """Shuffle the features of 12 images, 9 of them valid, of which this process has a part."""
    rows, valid, index = torch.arange(24.0).view(12, 2), torch.arange(12) % 4 > 0, torch.arange(12) * 5
    settings: dict[str, Any] = {"index": index[part], "epoch": 2, "seed": 1, "gather": True}
    return control_features("shuffled", rows[part], valid[part], **settings)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    spawn(one_of_two, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", MODULES)
def test_two_processes_normalise_as_one(name: str, two_processes: list[dict[str, Any]]) -> None:
    want = normalise_batches(nn.BatchNorm2d(3, **MODULES[name]), inputs())
    first, second = (result[name] for result in two_processes)
    assert first.keys() == want.keys()
    for key, value in want.items():
        if key.startswith("state"):
            assert torch.equal(first[key], second[key])
            found = first[key]
        elif key.startswith("gradient of"):
            found = first[key] + second[key]
        else:
            # without running statistics each process evaluates with those of its own batch, as BatchNorm2d does
            if key == "evaluation" and name == "bare":
                continue
            found = torch.cat([first[key], second[key]])
        torch.testing.assert_close(found, value, rtol=1e-6, atol=2e-6)
    if name == "default":
        # bfloat16 has 8 bits: half a unit in the last place is 0.4 %
        rough = torch.cat([result["rough"] for result in two_processes])
        torch.testing.assert_close(rough, nn.BatchNorm2d(3)(inputs()["x"].bfloat16().float()), rtol=1e-2, atol=1e-2)


def test_two_processes_learn_the_same_statistics(two_processes: list[dict[str, Any]]) -> None:
    module = FeatureNormaliser(5, horizon=20)
    for index, rows in enumerate((torch.cat(batches(5)), torch.cat(batches(6)))):
        found = torch.cat([result["features"][index] for result in two_processes])
        # one process merges other parts, in float64
        torch.testing.assert_close(found, module(rows), rtol=1e-12, atol=1e-12)
    for key, value in module.state_dict().items():
        assert torch.equal(*(result["statistics"][key] for result in two_processes))
        torch.testing.assert_close(two_processes[0]["statistics"][key], value, rtol=1e-12, atol=1e-12)


def test_two_processes_shuffle_features_as_one(two_processes: list[dict[str, Any]]) -> None:
    shuffled = torch.cat([result["shuffled"] for result in two_processes])
    assert torch.equal(shuffled, shuffle(slice(None)))
    assert any(row >= 12 for row in shuffled[:6, 0].tolist())  # from the other process


def test_synchronised_batch_normalisation_alone() -> None:
    """Without torch.distributed nothing changes; parameters and keys stay."""
    torch.manual_seed(7)
    plain_one, made = ImageEncoder(), ImageEncoder()
    made.load_state_dict(plain_one.state_dict())
    parameters = list(made.parameters())
    assert synchronise_batchnorm(made) is made
    kinds = [type(part) for part in made.modules() if isinstance(part, nn.BatchNorm2d)]
    assert kinds == [SynchronisedBatchNorm2d] * 20
    assert all(a is b for a, b in zip(parameters, made.parameters(), strict=True))
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(made(images)[1], plain_one(images)[1])
    for key, value in plain_one.state_dict().items():
        assert torch.equal(made.state_dict()[key], value)
    converted = synchronise_batchnorm(plain_one, "cuda")
    assert sum(isinstance(part, nn.SyncBatchNorm) for part in converted.modules()) == 20
    assert converted.state_dict().keys() == made.state_dict().keys()
