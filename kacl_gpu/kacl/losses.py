"""The two losses of KACL, the draw of the disease that an image stands for, and how well its two embeddings fit.

Han et al., "Knowledge-Augmented Contrastive Learning for Abnormality Classification and Localization in Chest X-rays
with Radiomics using a Feedback Loop", WACV 2022. Nothing here waits for the device; so the values of tensors are not
checked, only their shapes, dtypes and devices.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from kacl_gpu.errors import check_choice
from kacl_gpu.radiomics.checks import check_tensor

from .distributed import AllGather, is_distributed

Form = Literal["printed", "include_positive", "symmetric"]


def focal_loss(
    logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0, gather: bool = False
) -> Tensor:
    r"""Return the focal loss of independent labels, averaged over all labels that are certain.

    .. math:: -\alpha (1 - y')^\gamma \log y' \text{ if } y = 1, \quad
              -(1 - \alpha) y'^\gamma \log (1 - y') \text{ if } y = 0, \quad y' = \sigma(\text{logit})

    Source: the paper, and Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. With `gamma` 0 and `alpha`
    0.5 it is half the binary cross-entropy.

    Args:
        logits: (B, C), floating point; half precision is computed in float32.
        labels: (B, C), 1, 0, or below 0 for an uncertain label, which is left out; any real dtype.
        alpha: weight of the positives, from 0 to 1.
        gamma: focusing exponent, at least 0; larger values give less weight to labels that are classified well.
        gather: average over the labels of all processes of the default process group, if there is one; B must be the
            same in each, which is not checked. The loss is scaled as that of `contrastive_loss`.

    Returns:
        0-dim, float32 (float64 for float64 logits); 0 with gradients of zeros if all labels are uncertain.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape or device differs, there is no entry, or `alpha` or `gamma` is out of range.

    Example:
        >>> focal_loss(torch.zeros(2, 3), torch.ones(2, 3), alpha=0.25, gamma=2.0)
        tensor(0.0433)
    """
    logits, labels = _check_logits(logits, labels)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}")
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be finite and at least 0, got {gamma}")
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)  # q = 1 - p
    # powers as exponentials: the gradient of q ** gamma is infinite at q = 0 for gamma below 1
    positive = alpha * labels * (gamma * log_q).exp() * log_p
    negative = (1 - alpha) * (1 - labels) * (gamma * log_p).exp() * log_q
    return -_mean_of_certain(positive + negative, labels, gather)


def cross_entropy(logits: Tensor, labels: Tensor, *, gather: bool = False) -> Tensor:
    """Return the binary cross-entropy of independent labels, averaged over all labels that are certain.

    Args, result and errors: see `focal_loss`.

    Example:
        >>> cross_entropy(torch.zeros(1, 3), torch.tensor([[1, 0, -1]]))
        tensor(0.6931)
    """
    logits, labels = _check_logits(logits, labels)
    terms = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return _mean_of_certain(terms, labels, gather)


def _check_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the dtype in which a classification loss is computed, or raise."""
    check_tensor("logits", logits, "floating point", (-1, -1), logits.device)
    check_tensor("labels", labels, "real", tuple(logits.shape), logits.device)
    if logits.numel() == 0:
        raise ValueError(f"logits have no entry, the shape is {tuple(logits.shape)}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits, labels.to(logits.dtype)


def _mean_of_certain(terms: Tensor, labels: Tensor, gather: bool) -> Tensor:
    """Average the terms of the labels that are not below 0, over all processes if `gather`; 0 if there are none."""
    is_certain = labels >= 0
    number = is_certain.sum()
    gather = gather and is_distributed()
    if gather:
        dist.all_reduce(number)
    # The mean number per process, so that without uncertain labels this is the mean of each process, bit for bit
    number = number.clamp(min=1).to(terms.dtype) / (dist.get_world_size() if gather else 1)
    return torch.where(is_certain, terms, 0).sum() / number


class ContrastiveLoss(NamedTuple):
    """Hold the result of `contrastive_loss`: 0-dim tensors; the counts (int64) are of the images of this process."""

    loss: Tensor
    anchors: Tensor  # number of images that the loss is averaged over
    without_negatives: Tensor  # number of images with a disease and a valid radiomic row that are left out
    negatives: Tensor  # number of image negatives, summed over the anchors
    is_anchor: Tensor  # (B,) bool


def contrastive_loss(
    z_image: Tensor,
    z_radiomic: Tensor,
    findings: Tensor,
    disease: Tensor,
    normal: Tensor,
    body_parts: Tensor,
    *,
    temperature: float,
    form: Form = "printed",
    valid: Tensor | None = None,
    gather: bool = False,
) -> ContrastiveLoss:
    r"""Return the cross-modal contrastive loss with other findings of a body part as hard negatives.

    With :math:`e(a, b) = \exp(s(a, b) / \tau)` and s the cosine similarity, 0 for an embedding of zeros, it is the mean
    over the anchors v of

    printed:
        .. math:: -\log \frac{e(z_i(v), z_r(v))}{\sum_{n \in N(v)} e(z_i(v), z_i(n))}

        Source: the paper. The denominator has no positive, so the loss can be negative. Nothing keeps the radiomic
        embeddings of different images apart.

    include_positive:
        .. math:: -\log \frac{e(z_i(v), z_r(v))}{e(z_i(v), z_r(v)) + \sum_{n \in N(v)} e(z_i(v), z_i(n))}

        Source: the denominator of InfoNCE (van den Oord et al., 2018) and of NT-Xent.

    symmetric:
        .. math:: -\frac12 \log \frac{e(z_i(v), z_r(v))}
                  {\sum_{u \in A} e(z_i(v), z_r(u)) + \sum_{n \in N(v)} e(z_i(v), z_i(n))}
                  -\frac12 \log \frac{e(z_r(v), z_i(v))}{\sum_{u \in A} e(z_r(v), z_i(u))}

        A is the set of all anchors, v included. From image to radiomics, an anchor must tell its own radiomic
        embedding from those of the other anchors and from the hard negatives; from radiomics to image, its own image
        from those of the other anchors. If all z_r or all z_i coincide, the loss is at least log |A|, so neither
        branch gains by collapsing. Sources: NT-Xent (Chen et al., "A Simple Framework for Contrastive Learning of
        Visual Representations", ICML 2020), in both directions as in ConVIRT (Zhang et al., "Contrastive Learning of
        Medical Visual Representations from Paired Images and Text", MLHC 2022), with equal weights, beside the paper's
        negatives.

    The positive of an image is its own radiomic embedding. Its negatives N(v) are the other images that certainly do
    not have its disease d, and have another finding of the same body part or are normal.

    An anchor is an image with a disease and a valid radiomic row; those with nothing in the denominator beside the
    positive are left out. Without any anchor the loss is 0 and its gradients are zeros.

    Args:
        z_image: (B, P), floating point; half precision is computed in float32, under autocast too.
        z_radiomic: (B, P), floating point; rows that are not used may be NaN. (The backward pass of a network that
            made NaN of a NaN input still spreads it: 0 * NaN.)
        findings: (B, F), 1, 0, or below 0 for uncertain, in any real dtype: everything that is known of an image, not
            only what is classified. An image is no negative for anchors of a disease that it may have.
        disease: (B,), an integer: the disease that an image stands for, one of its findings, as a column in [0, F);
            below 0: none.
        normal: (B,) bool.
        body_parts: (F,), an integer: the body part of each finding (`kacl_gpu.kacl.data.diseases.body_parts`).
        temperature: tau, above 0.
        form: printed, include_positive or symmetric.
        valid: (B,) bool, True if the radiomic row is valid; None: all are.
        gather: take negatives, other anchors and the mean over the images of all processes of the default process
            group, if there is one; B must be the same in each, which is not checked. The loss is scaled so that its
            average over the processes, and that of its gradients (`DistributedDataParallel`), are those of one process
            with all images.

    Returns:
        The loss, float32 (float64 for float64 embeddings), the counts, and which images are anchors.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape or device differs, the temperature is not above 0, or the form is unknown.
        IndexError: a disease is F or above, on the CPU; on CUDA a failed assertion of the device.

    Example:
        >>> z_image, z_radiomic = torch.eye(3), torch.eye(3)
        >>> findings, disease = torch.tensor([[1], [0], [0]]), torch.tensor([0, -1, -1])
        >>> normal, parts = torch.tensor([False, True, True]), torch.tensor([0])
        >>> contrastive_loss(z_image, z_radiomic, findings, disease, normal, parts, temperature=0.5).loss
        tensor(-1.3069)
    """
    device = z_image.device
    check_tensor("z_image", z_image, "floating point", (-1, -1), device)
    b = len(z_image)
    check_tensor("z_radiomic", z_radiomic, "floating point", tuple(z_image.shape), device)
    check_tensor("findings", findings, "real", (b, -1), device)
    check_tensor("disease", disease, "integer", (b,), device)
    check_tensor("normal", normal, "bool", (b,), device)
    check_tensor("body_parts", body_parts, "integer", (findings.shape[1],), device)
    if valid is not None:
        check_tensor("valid", valid, "bool", (b,), device)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and above 0, got {temperature}")
    check_choice("form", form, Form)
    gather = gather and is_distributed()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if gather else (0, 1)
    dtype = torch.promote_types(torch.promote_types(z_image.dtype, z_radiomic.dtype), torch.float32)

    with torch.autocast(device.type, enabled=False):  # which would multiply matrices in half precision
        # (B, F) each: the image has a finding of this one's body part; it is a negative for anchors of this finding
        has_part = (findings > 0).to(dtype) @ (body_parts[:, None] == body_parts).to(dtype) > 0
        opposes = _all_rows((has_part | normal[:, None]) & (findings == 0), gather)  # (N, F)
        image = _unit_rows(z_image.to(dtype))
        all_images = _all_rows(image, gather)  # (N, P)
        row = torch.arange(rank * b, rank * b + b, device=device)
        is_negative = opposes.T[disease.clamp(min=0)]  # (B, N)
        is_negative = is_negative & (row[:, None] != torch.arange(len(all_images), device=device))

        has_positive = disease >= 0 if valid is None else (disease >= 0) & valid
        is_column = has_positive  # (N,): the image is in the other anchors' denominators
        is_comparable = is_negative.any(1)
        if form == "symmetric":
            is_column = _all_rows(has_positive, gather)
            is_comparable = is_comparable | (is_column.sum() > 1)
        is_anchor = has_positive & is_comparable
        # Masked before any computation, for a NaN row gives a NaN gradient even if its value is dropped
        radiomic = _unit_rows(torch.where(is_anchor[:, None], z_radiomic.to(dtype), 0))
        positive = (image * radiomic).sum(1) / temperature
        # Rows of other images keep all entries, for an empty logsumexp has a NaN gradient
        logits = (image @ all_images.T / temperature).masked_fill(is_anchor[:, None] & ~is_negative, -math.inf)
        if form == "symmetric":
            # (B, N) each; the positive has a column too
            to_radiomic = image @ _all_rows(radiomic, gather).T / temperature
            to_image = radiomic @ all_images.T / temperature
            to_radiomic, to_image = (
                similarity.masked_fill(is_anchor[:, None] & ~is_column, -math.inf)
                for similarity in (to_radiomic, to_image)
            )
            denominator = (torch.cat([to_radiomic, logits], 1).logsumexp(1) + to_image.logsumexp(1)) / 2
        else:
            denominator = logits.logsumexp(1)
            if form == "include_positive":
                denominator = torch.logaddexp(denominator, positive)
        total = torch.where(is_anchor, denominator - positive, 0).sum()

    anchors = is_anchor.sum()
    all_anchors = anchors.clone()
    if gather:
        dist.all_reduce(all_anchors)
    return ContrastiveLoss(
        loss=processes * total / all_anchors.clamp(min=1),
        anchors=anchors,
        without_negatives=(has_positive & ~is_anchor).sum(),
        negatives=(is_negative & is_anchor[:, None]).sum(),
        is_anchor=is_anchor,
    )


class Alignment(NamedTuple):
    """Hold the result of `alignment`: 0-dim tensors, float32 (float64 for float64 embeddings).

    A mean of nothing is 0.
    """

    cosine: Tensor  # mean over pairs of an anchor of this process and another one of the step
    nearest: Tensor  # mean over the anchors of this process, as all below
    nearest_10: Tensor
    chance: Tensor
    chance_10: Tensor
    anchors: Tensor  # number of anchors of this process
    pairs: Tensor  # number of pairs


@torch.no_grad()
def alignment(z_image: Tensor, z_radiomic: Tensor, is_anchor: Tensor, *, gather: bool = False) -> Alignment:
    """Return whether the radiomic embeddings differ, and whether an image finds its own among those of the anchors.

    `cosine` is the mean cosine between the radiomic embeddings of different anchors: near 1 they have collapsed.
    `nearest` is the share of anchors whose own radiomic embedding has the highest cosine with their image embedding
    among all anchors' (`nearest_10`: is among the ten highest), `chance` the share that a random order would give. Of
    equal cosines each is as likely to come first, so that embeddings that coincide give the chance.

    Args:
        z_image: (B, P), floating point.
        z_radiomic: (B, P), floating point; rows of images that are no anchors may be NaN.
        is_anchor: (B,) bool, from `contrastive_loss`.
        gather: compare with the anchors of all processes; B must be the same in each.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape or device differs.

    Example:
        >>> alignment(torch.eye(3), torch.eye(3), torch.ones(3, dtype=torch.bool))[:4]
        (tensor(0.), tensor(1.), tensor(1.), tensor(0.3333))
    """
    device = z_image.device
    check_tensor("z_image", z_image, "floating point", (-1, -1), device)
    b = len(z_image)
    check_tensor("z_radiomic", z_radiomic, "floating point", tuple(z_image.shape), device)
    check_tensor("is_anchor", is_anchor, "bool", (b,), device)
    gather = gather and is_distributed()
    dtype = torch.promote_types(torch.promote_types(z_image.dtype, z_radiomic.dtype), torch.float32)
    with torch.autocast(device.type, enabled=False):
        image, radiomic = (_unit_rows(torch.where(is_anchor[:, None], z.to(dtype), 0)) for z in (z_image, z_radiomic))
        all_radiomic, is_column = _all_rows(radiomic, gather), _all_rows(is_anchor, gather)
        similarity = (image @ all_radiomic.T).masked_fill(~is_column, -math.inf)  # (B, N)
        positive = similarity.diagonal(offset=dist.get_rank() * b if gather else 0)[:, None]
        higher, equal = (similarity > positive).sum(1), (similarity == positive).sum(1)  # with itself
        anchors, number = is_anchor.sum().to(dtype), is_column.sum().to(dtype)
        pairs = anchors * (number - 1).clamp(min=0)
        cosines = radiomic.sum(0) @ all_radiomic.sum(0) - radiomic.square().sum()

    def average(values: Tensor) -> Tensor:
        return torch.where(is_anchor, values, 0).sum() / anchors.clamp(min=1)

    nearest, nearest_10 = (average(((k - higher) / equal.clamp(min=1)).clamp(0, 1)) for k in (1, 10))
    chance, chance_10 = (average((k / number.clamp(min=k)).expand(b)) for k in (1, 10))
    return Alignment(cosines / pairs.clamp(min=1), nearest, nearest_10, chance, chance_10, anchors, pairs)


def _all_rows(rows: Tensor, gather: bool) -> Tensor:
    """Return the rows of all processes, in the order of the ranks."""
    if not gather:
        return rows
    if rows.dtype == torch.bool:  # which not every backend takes
        return AllGather.apply(rows.byte()).bool()
    return AllGather.apply(rows)


def _unit_rows(z: Tensor) -> Tensor:
    """Scale rows to length 1; rows of zeros stay, with a gradient of 0 where ``F.normalize`` has one of 10^12."""
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / norm.masked_fill(norm == 0, math.inf)


def draw_disease(labels: Tensor, index: Tensor, epoch: int | Tensor, seed: int) -> Tensor:
    """Draw one disease among those of each image, all with the same probability.

    A pure function of (seed, epoch, index) and the image's labels: the draw does not depend on the batch that an image
    is in, the number of processes, the device, or whether the run was resumed.

    Args:
        labels: (B, C), 1, 0, or below 0 for uncertain, which is never drawn; any real dtype.
        index: (B,) int64, the number of each image in the data set.
        epoch: an integer, or a 0-dim integer tensor.
        seed: an integer.

    Returns:
        (B,) int64, a column of `labels`; -1 for an image without a disease.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape or device differs, or epoch or seed do not fit into 64 bits.

    Example:
        >>> draw_disease(torch.tensor([[0, 1, 0], [0, 0, 0]]), torch.tensor([0, 1]), epoch=3, seed=0)
        tensor([ 1, -1])
    """
    check_tensor("labels", labels, "real", (-1, -1), labels.device)
    check_tensor("index", index, "integer", (len(labels),), labels.device)
    if isinstance(epoch, Tensor):
        check_tensor("epoch", epoch, "integer", (), epoch.device)
    numbers = {"seed": seed} if isinstance(epoch, Tensor) else {"seed": seed, "epoch": epoch}
    for name, number in numbers.items():
        if not isinstance(number, int):
            raise TypeError(f"{name} must be an integer, got {number!r}")
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"{name} must fit into 64 bits, got {number}")
    bits = random_bits(index, epoch, seed)
    positive = labels > 0
    count = positive.sum(1)
    # The upper 32 bits are a fraction of 2^32; count times that fraction, rounded down, is uniform up to count / 2^32
    rank = (_shift_right(bits, 32) * count) >> 32
    drawn = (positive.cumsum(1) <= rank[:, None]).sum(1)  # the columns before the positive of this rank
    return torch.where(count > 0, drawn, -1)


def random_bits(index: Tensor, epoch: int | Tensor, seed: int, stream: int = 0) -> Tensor:
    """Return 64 random bits for each image, a pure function of (seed, epoch, index, stream).

    Args:
        index: (B,) int64, the number of each image in the data set.
        epoch: an integer, or a 0-dim integer tensor.
        seed: an integer.
        stream: number of an independent draw for the same image and epoch; 0 is that of `draw_disease`.

    Returns:
        (B,) int64, all 64 bits random.

    Example:
        >>> random_bits(torch.tensor([0, 1]), epoch=3, seed=0).unique().shape
        torch.Size([2])
    """
    bits = _splitmix64(torch.full((), seed, dtype=torch.int64, device=index.device))
    bits = _splitmix64(_splitmix64(bits + epoch) + index)
    return _splitmix64(bits + stream) if stream else bits


def _splitmix64(state: Tensor) -> Tensor:
    """Return the next output of SplitMix64 (Steele et al., OOPSLA 2014) in this state, in int64 that wraps."""
    state = state + (0x9E3779B97F4A7C15 - 2**64)
    state = (state ^ _shift_right(state, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    state = (state ^ _shift_right(state, 27)) * (0x94D049BB133111EB - 2**64)
    return state ^ _shift_right(state, 31)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Shift int64 as if it had no sign, which torch has no operator for."""
    return (bits >> by) & (2 ** (64 - by) - 1)
