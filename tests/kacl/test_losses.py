"""The losses against the formula in plain loops, torch's and torchvision's own; the draw against SplitMix64 itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.multiprocessing.spawn import spawn

from kacl_gpu.kacl.data.diseases import ALL_DISEASES, DISEASES, body_parts
from kacl_gpu.kacl.losses import (
    Alignment,
    ContrastiveLoss,
    Form,
    alignment,
    contrastive_loss,
    cross_entropy,
    draw_disease,
    focal_loss,
)

C = len(DISEASES)
BODY_PARTS = body_parts(DISEASES)
ATELECTASIS, CARDIOMEGALY, EFFUSION, INFILTRATION = range(4)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Focal loss


def focal_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    logits = 4 * torch.randn(16, C, generator=generator(seed), dtype=torch.float64)
    return logits.requires_grad_(), torch.rand(16, C, generator=generator(seed + 1)) < 0.3


def test_focal_loss_with_gamma_0_and_alpha_half_is_half_the_cross_entropy() -> None:
    logits, labels = focal_case()
    expected = F.binary_cross_entropy_with_logits(logits, labels.double()) / 2
    ours = focal_loss(logits, labels, alpha=0.5, gamma=0.0)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(torch.autograd.grad(ours, logits), torch.autograd.grad(expected, logits)):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 1.0), (0.1, 0.0), (1.0, 5.0), (0.0, 2.0), (0.3, 0.5)])
def test_focal_loss_is_torchvisions_and_the_formula(alpha: float, gamma: float) -> None:
    torchvision = pytest.importorskip("torchvision", reason="the extra train is not installed")
    logits, labels = focal_case()
    theirs = torchvision.ops.sigmoid_focal_loss(logits, labels.double(), alpha=alpha, gamma=gamma, reduction="mean")
    ours = focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
    terms = []
    for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist()):
        p = 1 / (1 + math.exp(-x))
        terms.append(-alpha * (1 - p) ** gamma * math.log(p) if y else -(1 - alpha) * p**gamma * math.log(1 - p))
    assert ours.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_focal_loss_is_the_plain_mean_bit_for_bit() -> None:
    """Check certain labels in float32; several processes divide by the same number."""
    logits = torch.randn(50, 7, generator=generator(0))
    labels = (torch.rand(50, 7, generator=generator(1)) < 0.3).float()
    p, q = F.logsigmoid(logits), F.logsigmoid(-logits)
    terms = 0.25 * labels * (2.0 * q).exp() * p + 0.75 * (1 - labels) * (2.0 * p).exp() * q
    assert torch.equal(focal_loss(logits, labels), -terms.mean())


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_of_extreme_logits(gamma: float) -> None:
    """A certain error costs its logit, a certain hit nothing; no gradient is lost or NaN."""
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4, 200.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1, 0, 0, 1, 0, 1]])
    alpha = 0.25
    loss = focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    wrong = (1 - alpha) * 1e4 + alpha * 1e4 + (1 - alpha) * 200
    assert loss.item() == pytest.approx((wrong + alpha * 0.5**gamma * math.log(2)) / 6, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    torch.testing.assert_close(6 * gradient[0, :5], torch.tensor([0, 0, 1 - alpha, -alpha, 1 - alpha]))


def test_focal_loss_gradient() -> None:
    logits, labels = focal_case()
    for gamma in (0.5, 2.0):
        assert torch.autograd.gradcheck(partial(focal_loss, labels=labels, gamma=gamma), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_of_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = focal_case()
    half = logits.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = focal_loss(half, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, focal_loss(half.float(), labels), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(loss, half)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


LOSSES: dict[str, Callable[..., Tensor]] = {"focal": focal_loss, "cross_entropy": cross_entropy}


def test_cross_entropy_is_torchs() -> None:
    logits, labels = focal_case()
    theirs = F.binary_cross_entropy_with_logits(logits, labels.double())
    assert torch.equal(cross_entropy(logits, labels), theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (cross_entropy(logits, labels), theirs)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_uncertain_labels_do_not_count(name: str) -> None:
    """Whatever their logits are; the loss is that of the certain entries alone."""
    logits, labels = focal_case()
    uncertain = torch.rand(16, C, generator=generator(2)) < 0.4
    partial_labels = torch.where(uncertain, -1, labels.int())
    assert {-1, 0, 1} == {*partial_labels.flatten().tolist()}
    ours = LOSSES[name](logits, partial_labels)
    alone = LOSSES[name](logits[~uncertain][None], labels[~uncertain][None])
    torch.testing.assert_close(ours, alone, rtol=1e-12, atol=0)
    gradient, expected = (torch.autograd.grad(loss, logits)[0] for loss in (ours, alone))
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    assert (gradient[uncertain] == 0).all() and (gradient[~uncertain] != 0).all()
    assert LOSSES[name](torch.where(uncertain, 1e30, logits), partial_labels).item() == pytest.approx(ours.item())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_certain_labels_has_loss_and_gradients_0(name: str) -> None:
    logits, labels = focal_case()
    loss = LOSSES[name](logits, torch.full_like(labels, -1, dtype=torch.float32))
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "logits must be floating point"),
        ({"logits": torch.zeros(2)}, ValueError, r"logits must have the shape \(any, any\), got \(2,\)"),
        ({"labels": torch.zeros(2, 1)}, ValueError, r"labels must have the shape \(2, 3\), got \(2, 1\)"),
        ({"labels": torch.zeros(2, 3, dtype=torch.complex64)}, TypeError, "labels must be real"),
        ({"labels": torch.zeros(2, 3, device="meta")}, ValueError, "labels must be on cpu, got meta"),
        ({"logits": torch.zeros(0, 3), "labels": torch.zeros(0, 3)}, ValueError, "no entry"),
        ({"alpha": 1.5}, ValueError, "alpha must be from 0 to 1, got 1.5"),
        ({"gamma": -1.0}, ValueError, "gamma must be finite and at least 0, got -1.0"),
        ({"gamma": math.nan}, ValueError, "gamma"),
    ],
)
def test_focal_loss_of_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"logits": torch.zeros(2, 3), "labels": torch.zeros(2, 3), **change}
    with pytest.raises(error, match=message):
        focal_loss(arguments.pop("logits"), arguments.pop("labels"), **arguments)


# Contrastive loss


FORMS = get_args(Form)


def loop(
    z_image: Tensor,
    z_radiomic: Tensor,
    findings: Tensor,
    disease: Tensor,
    normal: Tensor,
    body_parts: Tensor,
    *,
    temperature: float,
    form: str = "printed",
    valid: Tensor | None = None,
) -> tuple[float, int, int, int]:
    """Compute the formula, image by image: loss, anchors, without negatives, negatives."""
    zi, zr, has, part = z_image.tolist(), z_radiomic.tolist(), findings.tolist(), body_parts.tolist()

    def e(a: list[float], b: list[float]) -> float:
        return math.exp(sum(x * y for x, y in zip(a, b)) / (math.hypot(*a) * math.hypot(*b)) / temperature)

    candidates = [v for v, d in enumerate(disease.tolist()) if d >= 0 and (valid is None or valid[v])]
    terms, without, number = [], 0, 0
    for v in candidates:
        d = int(disease[v])
        negatives = []
        for n in range(len(zi)):
            if n == v or has[n][d] != 0:
                continue
            if normal[n] or any(has[n][k] > 0 and part[k] == part[d] and k != d for k in range(len(part))):
                negatives.append(e(zi[v], zi[n]))
        if not negatives and not (form == "symmetric" and len(candidates) > 1):
            without += 1
            continue
        number += len(negatives)
        positive = e(zi[v], zr[v])
        if form == "symmetric":
            forth = -math.log(positive / (sum(e(zi[v], zr[u]) for u in candidates) + sum(negatives)))
            back = -math.log(positive / sum(e(zr[v], zi[u]) for u in candidates))
            terms.append((forth + back) / 2)
        else:
            terms.append(-math.log(positive / (sum(negatives) + (positive if form == "include_positive" else 0))))
    return (sum(terms) / len(terms) if terms else 0.0), len(terms), without, number


def batch(
    seed: int,
    b: int,
    prevalence: float,
    p: int = 4,
    diseases: tuple[str, ...] = DISEASES,
    uncertain: float = 0.0,
    classified: int | None = None,
) -> dict[str, Any]:
    """Random embeddings and findings; half of the images without a finding are normal, the others something else."""
    rng = generator(seed)
    labels = (torch.rand(b, len(diseases), generator=rng) < prevalence).int()
    arguments = {
        "z_image": torch.randn(b, p, generator=rng, dtype=torch.float64),
        "z_radiomic": torch.randn(b, p, generator=rng, dtype=torch.float64),
        "findings": labels.masked_fill(torch.rand(b, len(diseases), generator=generator(seed + 1)) < uncertain, -1),
        "normal": ~labels.any(1) & (torch.rand(b, generator=rng) < 0.5),
        "body_parts": body_parts(diseases),
    }
    return arguments | {"disease": draw_disease(arguments["findings"][:, :classified], torch.arange(b), 0, seed)}


def assert_is_loop(ours: ContrastiveLoss, arguments: dict[str, Any]) -> None:
    loss, *counts = loop(**arguments)
    assert all(value.shape == () for value in ours[:4])
    assert [int(value) for value in ours[1:4]] == counts
    assert ours.is_anchor.sum() == ours.anchors
    assert ours.loss.item() == pytest.approx(loss, rel=1e-9, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    b=st.integers(1, 12),
    prevalence=st.sampled_from([0.0, 0.05, 0.15, 0.4, 1.0]),
    diseases=st.sampled_from([DISEASES, ALL_DISEASES, ("Hernia",)]),
    temperature=st.sampled_from([0.05, 0.5, 2.0]),
    form=st.sampled_from(FORMS),
    invalid=st.sampled_from([None, 0.0, 0.3, 1.0]),
    uncertain=st.sampled_from([0.0, 0.3]),
    classified=st.sampled_from([None, 1, 4]),
)
def test_contrastive_loss_is_the_formula(
    *,
    seed: int,
    b: int,
    prevalence: float,
    diseases: tuple[str, ...],
    temperature: float,
    form: str,
    invalid: float | None,
    uncertain: float,
    classified: int | None,
) -> None:
    arguments = batch(seed, b, prevalence, diseases=diseases, uncertain=uncertain, classified=classified)
    arguments |= {"temperature": temperature, "form": form}
    if invalid is not None:
        arguments["valid"] = torch.rand(b, generator=generator(seed)) >= invalid
    assert_is_loop(contrastive_loss(**arguments), arguments)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("rows", "normal"),
    [
        ([[], [], []], [1, 1, 1]),  # all normal
        ([[ATELECTASIS], [INFILTRATION], [EFFUSION], [ATELECTASIS, EFFUSION]], [0, 0, 0, 0]),  # none normal
        ([[CARDIOMEGALY]], [0]),  # one image
        ([[EFFUSION], [EFFUSION], [EFFUSION]], [0, 0, 0]),  # all the same disease
        ([[EFFUSION], [EFFUSION], []], [0, 0, 1]),
        ([[EFFUSION], [CARDIOMEGALY], []], [0, 0, 0]),  # neither a disease of the part nor normal
    ],
)
def test_contrastive_loss_of_special_batches(rows: list[list[int]], normal: list[int], form: str) -> None:
    arguments = batch(0, len(rows), 0.0)
    for image, diseases in enumerate(rows):
        arguments["findings"][image, diseases] = True
        arguments["disease"][image] = diseases[0] if diseases else -1
    arguments["normal"] = torch.tensor(normal, dtype=torch.bool)
    arguments |= {"temperature": 0.2, "form": form}
    assert_is_loop(contrastive_loss(**arguments), arguments)


def test_contrastive_loss_by_hand() -> None:
    """One anchor at 0 degrees with its radiomic row at 60, a negative at 90, and images at 0 that are no negatives."""
    x, y = [1.0, 0.0], [0.0, 5.0]
    arguments: dict[str, Any] = {
        "z_image": torch.tensor([x, y, x, x, x], dtype=torch.float64),
        "z_radiomic": torch.tensor([[0.5, math.sqrt(0.75)]] * 5, dtype=torch.float64),
        "findings": torch.zeros(5, C),
        "disease": torch.tensor([ATELECTASIS, -1, -1, -1, -1]),
        "normal": torch.zeros(5, dtype=torch.bool),
        "body_parts": BODY_PARTS,
    }
    arguments["findings"][[0, 1, 2, 2, 3], [ATELECTASIS, INFILTRATION, ATELECTASIS, INFILTRATION, EFFUSION]] = 1
    ours = contrastive_loss(**arguments, temperature=0.5)
    assert ours.loss.item() == pytest.approx(-math.log(math.exp(1) / math.exp(0)))
    assert ours.loss.item() < 0
    ours = contrastive_loss(**arguments, temperature=0.5, form="include_positive")
    assert ours.loss.item() == pytest.approx(-math.log(math.exp(1) / (math.exp(0) + math.exp(1))))


def test_an_image_is_never_its_own_negative() -> None:
    """Not even where the disease that it stands for is missing in its labels."""
    arguments = batch(0, 1, 0.0) | {"disease": torch.tensor([ATELECTASIS]), "normal": torch.tensor([True])}
    ours = contrastive_loss(**arguments, temperature=1.0)
    assert (ours.anchors.item(), ours.without_negatives.item()) == (0, 1)


def test_contrastive_loss_by_hand_both_ways() -> None:
    """Two anchors at right angles, each with its own radiomic row, and a normal image opposite to the first."""
    x, y = [1.0, 0.0], [0.0, 1.0]
    arguments: dict[str, Any] = {
        "z_image": torch.tensor([x, y, [-1.0, 0.0]], dtype=torch.float64),
        "z_radiomic": torch.tensor([x, y, [torch.nan] * 2], dtype=torch.float64),
        "findings": torch.eye(3, C) * torch.tensor([[1], [1], [0]]),
        "disease": torch.tensor([ATELECTASIS, CARDIOMEGALY, -1]),
        "normal": torch.tensor([False, False, True]),
        "body_parts": BODY_PARTS,
    }
    ours = contrastive_loss(**arguments, temperature=1.0, form="symmetric")
    e = math.e
    forth = [math.log((e + 1 + 1 / e) / e), math.log((e + 1 + 1) / e)]
    back = 2 * [math.log((e + 1) / e)]
    assert ours.loss.item() == pytest.approx(sum(forth + back) / 4)
    assert (ours.anchors.item(), ours.negatives.item(), ours.is_anchor.tolist()) == (2, 2, [True, True, False])


def test_findings_that_are_not_classified_make_hard_negatives() -> None:
    """An image with Edema alone is one of Pneumonia, of the same part, unless its Pneumonia is uncertain."""
    pneumonia, edema, hernia = (ALL_DISEASES.index(name) for name in ("Pneumonia", "Edema", "Hernia"))
    arguments = batch(0, 4, 0.0, diseases=ALL_DISEASES) | {"normal": torch.zeros(4, dtype=torch.bool)}
    arguments["findings"][[0, 1, 2, 3, 3], [pneumonia, edema, hernia, edema, pneumonia]] = torch.tensor(
        [1, 1, 1, 1, -1], dtype=torch.int32
    )
    arguments["disease"] = torch.tensor([pneumonia, -1, -1, -1])
    ours = contrastive_loss(**arguments, temperature=1.0)
    assert (ours.anchors.item(), ours.negatives.item()) == (1, 1)
    unit = F.normalize(arguments["z_image"])
    expected = unit[0] @ unit[1] - unit[0] @ F.normalize(arguments["z_radiomic"])[0]
    torch.testing.assert_close(ours.loss, expected)
    classified = arguments["findings"][:, : len(DISEASES)]
    alone = arguments | {"findings": classified, "body_parts": BODY_PARTS}
    assert contrastive_loss(**alone, temperature=1.0).without_negatives == 1


@pytest.mark.parametrize("collapsed", ["z_image", "z_radiomic"])
def test_collapsed_embeddings_cost_as_much_as_chance_both_ways(collapsed: str) -> None:
    arguments = batch(5, 24, 0.15)
    arguments[collapsed] = arguments[collapsed][:1].expand(24, -1)
    for temperature in (0.05, 0.5, 5.0):
        ours = contrastive_loss(**arguments, temperature=temperature, form="symmetric")
        assert ours.loss >= math.log(ours.anchors) > 1


@pytest.mark.parametrize("form", FORMS)
def test_contrastive_loss_gradient(form: Form) -> None:
    arguments = batch(3, 6, 0.15)
    z = [arguments.pop(name).requires_grad_() for name in ("z_image", "z_radiomic")]

    def loss(z_image: Tensor, z_radiomic: Tensor) -> Tensor:
        ours = contrastive_loss(z_image, z_radiomic, **arguments, temperature=0.3, form=form)
        assert ours.anchors > 1
        return ours.loss

    assert torch.autograd.gradcheck(loss, z)


@pytest.mark.parametrize("form", FORMS)
def test_contrastive_loss_does_not_depend_on_the_order(form: Form) -> None:
    arguments = batch(5, 24, 0.15)
    order = torch.randperm(24, generator=generator(0))
    shuffled = {name: value if name == "body_parts" else value[order] for name, value in arguments.items()}
    ours, again = (contrastive_loss(**batch, temperature=0.1, form=form) for batch in (arguments, shuffled))
    assert ours.anchors > 5
    torch.testing.assert_close(again[:4], ours[:4], rtol=1e-12, atol=0)
    assert torch.equal(again.is_anchor, ours.is_anchor[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("form", FORMS)
def test_contrastive_loss_of_half_precision_is_computed_in_float32(
    dtype: torch.dtype, scale: float, form: Form
) -> None:
    arguments = batch(7, 16, 0.15)
    for name in ("z_image", "z_radiomic"):
        arguments[name] = (scale * arguments[name]).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = contrastive_loss(**arguments, temperature=0.01, form=form)
    z = [arguments["z_image"], arguments["z_radiomic"]]
    gradients = torch.autograd.grad(half.loss, z)
    assert all(gradient.isfinite().all() and gradient.dtype == dtype for gradient in gradients)
    double = arguments | {"z_image": z[0].double(), "z_radiomic": z[1].double()}
    full = contrastive_loss(**double, temperature=0.01, form=form)
    assert half.loss.dtype == torch.float32
    assert half.anchors > 5
    torch.testing.assert_close(half.loss, full.loss.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_embeddings_of_zeros_have_similarity_and_gradient_0(dtype: torch.dtype, form: Form) -> None:
    arguments = batch(7, 16, 0.15)
    image, radiomic = (arguments["disease"] >= 0).nonzero()[:2, 0].tolist()  # of an anchor each
    z = [arguments[name].to(dtype) for name in ("z_image", "z_radiomic")]
    z[0][image], z[1][radiomic] = 0, 0
    arguments |= {"z_image": z[0].requires_grad_(), "z_radiomic": z[1].requires_grad_()}
    ours = contrastive_loss(**arguments, temperature=0.01, form=form)
    gradients = torch.autograd.grad(ours.loss, z)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][image] == 0).all()
    assert (gradients[1][radiomic] == 0).all()
    # a direction of its own, at a right angle to all the others
    arguments |= {name: F.pad(arguments[name].detach().double(), (0, 2)) for name in ("z_image", "z_radiomic")}
    arguments["z_image"][image, -2], arguments["z_radiomic"][radiomic, -1] = 1, 1
    expected, anchors, *_ = loop(**arguments, temperature=0.01, form=form)
    assert ours.anchors == anchors
    assert ours.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("b", [0, 1, 4])
@pytest.mark.parametrize("kind", ["normal", "without negatives", "invalid"])
def test_contrastive_loss_without_an_anchor_is_zero_with_zero_gradients(kind: str, b: int) -> None:
    arguments = batch(0, b, 0.0)
    arguments["valid"] = torch.full((b,), kind != "invalid")
    arguments["normal"][:] = kind == "normal"
    if kind != "normal":
        arguments["findings"][:, EFFUSION] = True
        arguments["disease"][:] = EFFUSION
    z = [arguments[name].requires_grad_() for name in ("z_image", "z_radiomic")]
    for form in FORMS:
        if kind == "without negatives" and form == "symmetric" and b > 1:
            continue  # the other anchors are in the denominator
        ours = contrastive_loss(**arguments, temperature=0.1, form=form)
        assert ours.loss.item() == 0
        assert ours.anchors.item() == ours.negatives.item() == 0
        assert ours.without_negatives.item() == (b if kind == "without negatives" else 0)
        with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
            gradients = torch.autograd.grad(ours.loss, z)  # which raises where a tensor is not in the graph
        assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("form", FORMS)
def test_radiomic_rows_that_are_not_used_do_not_leak(bad: float, form: Form) -> None:
    arguments = batch(9, 16, 0.15)
    arguments["valid"] = torch.arange(16) % 3 != 0
    used = arguments["valid"] & (arguments["disease"] >= 0)
    z = [arguments[name].requires_grad_() for name in ("z_image", "z_radiomic")]
    clean = contrastive_loss(**arguments, temperature=0.1, form=form)
    assert clean.anchors > 3
    gradients = torch.autograd.grad(clean.loss, z)
    z[1] = torch.where(used[:, None], z[1].detach(), bad).requires_grad_()
    ours = contrastive_loss(**arguments | {"z_radiomic": z[1]}, temperature=0.1, form=form)
    torch.testing.assert_close(ours.loss, clean.loss, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours.loss, z), gradients, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z_image": torch.zeros(4)}, ValueError, r"z_image must have the shape \(any, any\), got \(4,\)"),
        ({"z_image": torch.zeros(4, 2, dtype=torch.int32)}, TypeError, "z_image must be floating point"),
        ({"z_radiomic": torch.zeros(4, 3)}, ValueError, r"z_radiomic must have the shape \(4, 4\), got \(4, 3\)"),
        ({"z_radiomic": torch.zeros(4, 4, device="meta")}, ValueError, "z_radiomic must be on cpu, got meta"),
        ({"findings": torch.zeros(3, C)}, ValueError, r"findings must have the shape \(4, any\)"),
        ({"findings": torch.zeros(4, C, dtype=torch.complex64)}, TypeError, "findings must be real"),
        ({"disease": torch.zeros(4)}, TypeError, "disease must be integer, got torch.float32"),
        ({"disease": torch.zeros(4, dtype=torch.bool)}, TypeError, "disease must be integer"),
        ({"disease": torch.zeros(4, 1, dtype=torch.int64)}, ValueError, r"disease must have the shape \(4\)"),
        ({"disease": torch.full((4,), C)}, IndexError, "out of bounds"),
        ({"normal": torch.zeros(4)}, TypeError, "normal must be bool"),
        ({"body_parts": BODY_PARTS[1:]}, ValueError, r"body_parts must have the shape \(8\), got \(7,\)"),
        ({"valid": torch.ones(4)}, TypeError, "valid must be bool"),
        ({"valid": torch.ones(3, dtype=torch.bool)}, ValueError, "valid must have the shape"),
        ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0.0"),
        ({"temperature": -0.1}, ValueError, "temperature"),
        ({"temperature": math.inf}, ValueError, "temperature"),
        ({"temperature": math.nan}, ValueError, "temperature"),
        ({"form": "literal"}, ValueError, "form must be one of printed, include_positive, symmetric, got literal"),
    ],
)
def test_contrastive_loss_of_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        contrastive_loss(**batch(0, 4, 0.2) | {"temperature": 0.1} | change)


def test_no_value_goes_to_the_host() -> None:
    """Fake CUDA tensors have no values: whatever asks for one fails."""
    with FakeTensorMode():
        labels = torch.empty(8, C, device="cuda")
        index = torch.empty(8, dtype=torch.int64, device="cuda")
        normal, z = index == 0, torch.empty(8, 4, device="cuda")
        disease = draw_disease(labels, index, torch.empty((), dtype=torch.int64, device="cuda"), 0)
        parts = torch.empty(C, dtype=torch.int64, device="cuda")
        for form in FORMS:
            ours = contrastive_loss(z, z, labels, disease, normal, parts, temperature=0.1, form=form, valid=normal)
            assert all(value.shape == () and value.device.type == "cuda" for value in ours[:4])
        assert all(value.shape == () for value in alignment(z, z, normal))
        assert focal_loss(z.repeat(1, 2), labels).shape == cross_entropy(z.repeat(1, 2), labels).shape == ()
        with pytest.raises(DataDependentOutputException):  # the check can fail
            ours.anchors.item()


# How well the embeddings fit


def alignment_loop(zi: Tensor, zr: Tensor, anchors: list[int]) -> list[float]:
    """Compare all pairs: mean cosine of different radiomic rows, own row first, in the first ten, and their chances."""

    def cosine(a: Tensor, b: Tensor) -> float:
        return F.cosine_similarity(a.double(), b.double(), dim=0).item()

    cosines = [cosine(zr[v], zr[u]) for v in anchors for u in anchors if u != v]
    ranks = [sum(cosine(zi[v], zr[u]) > cosine(zi[v], zr[v]) for u in anchors) for v in anchors]
    chances = [min(k / len(anchors), 1) for k in (1, 10)]
    return [float(np.mean(x)) for x in (cosines, [r < 1 for r in ranks], [r < 10 for r in ranks])] + chances


@pytest.mark.parametrize("number", [2, 8, 30])
def test_alignment_is_that_of_all_pairs(number: int) -> None:
    zi = torch.randn(40, 6, generator=generator(0))
    zr = zi + 1.5 * torch.randn(40, 6, generator=generator(1))
    anchors = torch.randperm(40, generator=generator(2))[:number].sort().values
    is_anchor = torch.zeros(40, dtype=torch.bool).index_fill(0, anchors, True)
    ours = alignment(zi, torch.where(is_anchor[:, None], zr, torch.nan), is_anchor)
    expected = alignment_loop(zi, zr, anchors.tolist())
    assert [float(value) for value in ours[:5]] == pytest.approx(expected, abs=1e-6)
    assert (ours.anchors.item(), ours.pairs.item()) == (number, number * (number - 1))
    assert number < 8 or ours.chance < ours.nearest < 1


@pytest.mark.parametrize(("number", "expected"), [(0, [0] * 5), (1, [0, 1, 1, 1, 1]), (20, [1, 0.05, 0.5, 0.05, 0.5])])
def test_alignment_of_embeddings_that_coincide_is_chance(number: int, expected: list[float]) -> None:
    z = torch.tensor([[1.0, 0.0, 0.0]]).expand(25, 3)
    ours = alignment(z, z, torch.arange(25) < number)
    assert [float(value) for value in ours[:5]] == pytest.approx(expected)


def perceptron(*widths: int) -> nn.Sequential:
    """Return linear layers with a ReLU after each but the last, as the networks of `kacl_gpu.kacl.encoders`."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def trained(form: Form, constant: bool) -> tuple[ContrastiveLoss, Alignment]:
    """Train small networks on features of which half repeat the image's, or that are the same for all images."""
    rng = generator(0)
    x = torch.rand(48, 16, generator=rng)
    features = torch.cat([x[:, :6], torch.rand(48, 6, generator=rng)], 1)
    if constant:
        features = torch.zeros_like(features)
    labels = (torch.rand(48, C, generator=rng) < 0.15).float()
    arguments = (labels, draw_disease(labels, torch.arange(48), 0, 0), labels.sum(1) == 0, BODY_PARTS)
    torch.manual_seed(0)
    image, radiomic = perceptron(16, 64, 32), perceptron(12, 64, 64, 64, 64, 32)
    optimizer = torch.optim.Adam([*image.parameters(), *radiomic.parameters()], lr=3e-3)
    for _ in range(120):
        z = image(x), radiomic(features)
        ours = contrastive_loss(*z, *arguments, temperature=0.5, form=form)
        optimizer.zero_grad()
        ours.loss.backward()
        optimizer.step()
    return ours, alignment(*z, ours.is_anchor)


def test_symmetric_training_spreads_the_radiomic_embeddings() -> None:
    """Until they are as far apart as so many vectors can be; without knowledge in them it stays at chance."""
    ours, spread = trained("symmetric", constant=False)
    assert spread.cosine < 0.05 and spread.nearest > 0.9
    assert spread.cosine < trained("printed", constant=False)[1].cosine - 0.1
    ours, coincident = trained("symmetric", constant=True)
    torch.testing.assert_close(coincident[1:3], coincident[3:5])
    assert coincident.cosine > 0.999 and ours.loss > math.log(ours.anchors)


# Contrastive loss in several processes

PROCESSES = 2
CASES = ["random", "anchors in one process", "no anchor"]


class Embeddings(nn.Module):
    """Linear in both branches, of known weights."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.radiomic = (nn.Linear(5, 4, dtype=torch.float64) for _ in range(2))
        for n, parameter in enumerate(self.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=generator(n), dtype=torch.float64)

    def forward(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.image(x), self.radiomic(features)


def global_batch(case: str, form: Form) -> dict[str, Any]:
    b = 20
    arguments = batch(11, b, 0.15, p=5) | {"temperature": 0.2, "form": form}
    arguments["valid"] = torch.arange(b) % 5 != 0
    if case != "random":
        arguments["disease"][b // 2 if case == "anchors in one process" else 0 :] = -1
    return arguments


def training_step(model: nn.Module, arguments: dict[str, Any], gather: bool) -> tuple[ContrastiveLoss, Alignment]:
    x, features = arguments["z_image"], arguments["z_radiomic"]
    z_image, z_radiomic = model(x, features)
    ours = contrastive_loss(**arguments | {"z_image": z_image, "z_radiomic": z_radiomic}, gather=gather)
    ours.loss.backward()
    return ours, alignment(z_image, z_radiomic, ours.is_anchor, gather=gather)


def uncertain_case(case: str) -> tuple[Tensor, Tensor]:
    """Inputs of a linear classifier, and labels of which one process knows more than the other."""
    x, rng = torch.randn(20, 5, generator=generator(3), dtype=torch.float64), generator(4)
    labels = (torch.rand(20, 4, generator=rng) < 0.4).float()
    share = torch.where(torch.arange(20) < 10, 0.2, 0.8)[:, None]
    labels[torch.rand(20, 4, generator=rng) < share] = -1
    if case == "certain in one process":
        labels[:10] = -1
    elif case == "certain in none":
        labels[:] = -1
    return x, labels


UNCERTAIN = ["random", "certain in one process", "certain in none"]


def process(rank: int, folder: Path) -> None:
    """Both halves of each case under DistributedDataParallel; leaves loss, counts and gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=PROCESSES)
    results: dict[tuple[str, Any], Any] = {}
    for case in CASES:
        for form in FORMS:
            arguments = global_batch(case, form)
            half = len(arguments["findings"]) // PROCESSES
            mine = {
                name: value[rank * half : rank * half + half]
                if isinstance(value, Tensor) and name != "body_parts"
                else value
                for name, value in arguments.items()
            }
            model = nn.parallel.DistributedDataParallel(Embeddings())
            ours, fit = training_step(model, mine, gather=True)
            gradients = [parameter.grad for parameter in model.parameters()]
            results[case, form] = [value.detach() for value in ours], gradients, [*fit]
    for case in UNCERTAIN:
        x, labels = (value[rank * 10 : rank * 10 + 10] for value in uncertain_case(case))
        for name, function in LOSSES.items():
            model = nn.parallel.DistributedDataParallel(Embeddings().image)
            loss = function(model(x), labels, gather=True)
            loss.backward()
            results[case, name] = loss.detach(), [parameter.grad for parameter in model.parameters()]
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, Any], Any]]:
    folder = tmp_path_factory.mktemp("processes")
    spawn(process, (folder,), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", UNCERTAIN)
def test_processes_average_over_all_certain_labels(
    case: str, name: str, ranks: list[dict[tuple[str, Any], Any]]
) -> None:
    model = Embeddings().image
    x, labels = uncertain_case(case)
    expected = LOSSES[name](model(x), labels, gather=True)  # no group: all there is
    expected.backward()
    mean = sum(results[case, name][0] for results in ranks) / PROCESSES
    torch.testing.assert_close(mean, expected.detach(), rtol=1e-12, atol=0)
    for results in ranks:
        torch.testing.assert_close(results[case, name][1], [p.grad for p in model.parameters()], rtol=1e-10, atol=1e-15)
    assert (expected > 0.01) == (case != "certain in none")


def test_processes_together_are_one(ranks: list[dict[tuple[str, Any], Any]]) -> None:
    for case in CASES:
        for form in FORMS:
            model = Embeddings()
            expected, fit = training_step(model, global_batch(case, form), gather=True)  # no group: all there is
            parts = [results[case, form] for results in ranks]
            counts = torch.stack([torch.stack(values[1:4]) for values, _, _ in parts])
            assert counts.sum(0).tolist() == [int(value) for value in expected[1:4]]
            fits = torch.stack([torch.stack(values) for _, _, values in parts])  # (processes, fields of Alignment)
            weights = fits[:, [6, 5, 5, 5, 5]]
            means = (fits[:, :5] * weights).sum(0) / weights.sum(0).clamp(min=1)
            torch.testing.assert_close(means, torch.stack(fit[:5]), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(fits[:, 5:].sum(0), torch.stack(fit[5:]))
            if case != "no anchor":
                assert counts[0, 0] > 2
                assert counts[1, 0] > 2 or case != "random"
            mean = torch.stack([values[0] for values, _, _ in parts]).mean()
            torch.testing.assert_close(mean, expected.loss.detach(), rtol=1e-10, atol=1e-12)
            for _, gradients, _ in parts:
                for gradient, parameter in zip(gradients, model.parameters(), strict=True):
                    torch.testing.assert_close(gradient, parameter.grad, rtol=1e-10, atol=1e-12)
                assert case == "no anchor" or any(gradient.abs().max() > 0.01 for gradient in gradients)


# The draw


def splitmix64(state: int) -> int:
    """Steele et al., OOPSLA 2014, in Python's integers."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_splitmix64_is_the_published_one() -> None:
    """The first numbers of the generator of seed 1234567, published with it."""
    state, golden = 1234567, 0x9E3779B97F4A7C15
    assert [splitmix64(state + n * golden) for n in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    epoch=st.integers(-(2**63), 2**63 - 1),
    first=st.integers(-(2**63), 2**63 - 9),
    labels=st.lists(st.lists(st.booleans(), min_size=14, max_size=14), min_size=1, max_size=8),
)
def test_draw_is_that_of_the_hash(seed: int, epoch: int, first: int, labels: list[list[bool]]) -> None:
    index = [first + n for n in range(len(labels))]
    expected = []
    for n, row in zip(index, labels):
        diseases = [disease for disease, has in enumerate(row) if has]
        bits = splitmix64((splitmix64((splitmix64(seed % 2**64) + epoch) % 2**64) + n) % 2**64)
        expected.append(diseases[(bits >> 32) * len(diseases) >> 32] if diseases else -1)
    for e in (epoch, torch.tensor(epoch)):
        drawn = draw_disease(torch.tensor(labels), torch.tensor(index), e, seed)
        assert drawn.dtype == torch.int64
        assert drawn.tolist() == expected


def test_draw_is_uniform_over_images_epochs_and_seeds() -> None:
    """Also of two draws together, of neighbouring images, epochs and seeds."""
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    images, diseases = 3000, 5
    labels = torch.zeros(images, C)
    columns = torch.tensor([0, 2, 3, 5, 7])
    labels[:, columns] = 1
    index = torch.arange(images)
    draws = torch.stack(
        [torch.stack([draw_disease(labels, index, epoch, seed) for epoch in range(20)]) for seed in range(3)]
    )
    number = torch.searchsorted(columns, draws)
    assert torch.equal(columns[number], draws)
    for view in (number, number[:, :, :7], number[:, 3], number[1]):
        assert stats.chisquare(np.bincount(view.flatten(), minlength=diseases)).pvalue > 1e-3
    for one, other in (
        (number[:, :, 1:], number[:, :, :-1]),
        (number[:, 1:], number[:, :-1]),
        (number[1:], number[:-1]),
    ):
        pairs = np.bincount((diseases * one + other).flatten(), minlength=diseases**2)
        assert stats.chisquare(pairs).pvalue > 1e-3


def test_uncertain_diseases_are_never_drawn() -> None:
    labels = torch.randint(-1, 2, (500, C), generator=generator(0)).float()
    labels[:5] = -1
    index = torch.arange(500)
    drawn = draw_disease(labels, index, 0, 0)
    assert torch.equal(drawn, draw_disease(labels > 0, index, 0, 0))
    assert (drawn[:5] == -1).all()


def test_draw_does_not_depend_on_the_batch() -> None:
    labels = torch.rand(200, C, generator=generator(0)) < 0.3
    index = torch.randperm(1000, generator=generator(1))[:200]
    drawn = draw_disease(labels, index, 3, 7)
    order = torch.randperm(200, generator=generator(2))
    assert torch.equal(draw_disease(labels[order], index[order], 3, 7), drawn[order])
    assert torch.equal(draw_disease(labels[::2].float(), index[::2], 3, 7), drawn[::2])  # one of two processes
    assert torch.equal(drawn == -1, ~labels.any(1))
    assert (drawn == -1).any()
    assert not torch.equal(draw_disease(labels, index, 4, 7), drawn)
    assert not torch.equal(draw_disease(labels, index, 3, 8), drawn)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(4)}, ValueError, r"labels must have the shape \(any, any\)"),
        ({"index": torch.zeros(3, dtype=torch.int64)}, ValueError, r"index must have the shape \(4\), got \(3,\)"),
        ({"index": torch.zeros(4)}, TypeError, "index must be integer"),
        ({"epoch": torch.zeros(())}, TypeError, "epoch must be integer"),
        ({"epoch": torch.zeros(1, dtype=torch.int64)}, ValueError, r"epoch must have the shape \(\)"),
        ({"epoch": 1.5}, TypeError, "epoch must be an integer, got 1.5"),
        ({"seed": 2**63}, ValueError, "seed must fit into 64 bits"),
        ({"seed": None}, TypeError, "seed must be an integer"),
    ],
)
def test_draw_of_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"labels": torch.zeros(4, C), "index": torch.arange(4), "epoch": 0, "seed": 0, **change}
    with pytest.raises(error, match=message):
        draw_disease(**arguments)
