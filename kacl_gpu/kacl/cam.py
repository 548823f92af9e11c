"""Grad-CAM: heatmaps of the pixels that raise the logit of a disease.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kacl_gpu.errors import InputError
from kacl_gpu.radiomics.checks import check_tensor

POOLED_LINEAR = (
    "the closed form of Grad-CAM needs global average pooling and then one linear layer, and nothing between; take "
    "another network, or compute heatmaps of your own (such as GradCAM's) and give them to BYOP"
)


@torch.no_grad()
def head_cam(activations: Tensor, weight: Tensor, disease: Tensor) -> Tensor:
    r"""Return Grad-CAM of a linear head on globally average-pooled activations, without a backward pass.

    There the gradient of logit d with respect to activation k is :math:`w_{dk} / hw` at every pixel, and Grad-CAM is
    the CAM of Zhou et al. (CVPR 2016; Selvaraju et al., section 3.1). The factor :math:`1 / hw` is left out: it is
    positive and disappears in :func:`scale_to_unit`.

    .. math:: \mathrm{relu}\Big(\sum_k w_{dk} A_k\Big)

    Computed in float32 (float64 if given that), also under autocast, and without a matrix product, which may be set to
    round to TF32. The host never waits for the device. No gradient flows through.

    Args:
        activations: (B, C, h, w), floating, exactly the input of the pooling.
        weight: (D, C), of the head.
        disease: (B,) int64, the row of the head for each image.

    Returns:
        (B, h, w), not negative, float32 or float64.

    Raises:
        TypeError: another dtype.
        ValueError: a shape does not fit; an index outside 0 ... D - 1 (only on the CPU: on a GPU that is a device-side
            assertion).

    Example:
        >>> head_cam(torch.ones(1, 2, 1, 1), torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), torch.tensor([0]))
        tensor([[[3.]]])
    """
    check_tensor("activations", activations, "floating point", ("B", "C", "h", "w"))
    check_tensor("weight", weight, "floating point", ("D", activations.shape[1]))
    _check_disease(disease, len(activations), len(weight))
    return _weighted(activations, weight.index_select(0, disease))


@torch.no_grad()
def check_head_cam(activations: Tensor, classifier: nn.Module, logits: Tensor) -> None:
    """Check, once and before training, that :func:`head_cam` holds for a network.

    Args:
        activations: (B, C, h, w), floating, that the network pools; of images that differ, in evaluation mode.
        classifier: linear layer from (B, C) to (B, D), or the identity to compare the network's pooled activations.
        logits: (B, D), of the network for the same images.

    Raises:
        InputError: the logits are not those of the classifier on the mean of the activations, by more than rounding.
            The message says what to do instead.

    Example:
        >>> activations, classifier = torch.rand(2, 3, 4, 4), nn.Linear(3, 5)
        >>> check_head_cam(activations, classifier, classifier(activations.mean((2, 3))))
        >>> check_head_cam(activations, classifier, classifier(F.layer_norm(activations.mean((2, 3)), (3,))))
        Traceback (most recent call last):
            ...
        kacl_gpu.errors.InputError: the logits are not classifier(activations.mean((2, 3))): the closed form of \
Grad-CAM needs global average pooling and then one linear layer, and nothing between; take another network, or compute \
heatmaps of your own (such as GradCAM's) and give them to BYOP
    """
    if activations.ndim != 4 or not activations.is_floating_point():
        raise InputError(f"the activations are {_describe(activations)}, not floating (B, C, h, w): {POOLED_LINEAR}")
    try:
        expected = classifier(activations.mean((2, 3)))
    except RuntimeError as error:
        words = f"the classifier does not take the mean of activations {_describe(activations)}"
        raise InputError(f"{words}: {POOLED_LINEAR}") from error
    scale = logits.abs().max()
    if not 0 < scale < torch.inf:
        raise InputError("the network's output is zero, NaN or infinite, which shows nothing: take other images")
    tolerance = 1e-9 if expected.dtype == logits.dtype == torch.float64 else 1e-4
    if expected.shape != logits.shape or not bool(((expected - logits).abs() <= tolerance * scale).all()):
        raise InputError(f"the logits are not classifier(activations.mean((2, 3))): {POOLED_LINEAR}")


class GradCAM:
    """Compute Grad-CAM of any module and layer, by a hook and one backward pass per batch.

    The hook exists inside the ``with`` only, and only `cam` uses it. Parameters keep their gradients: only that of the
    layer's output is computed.

    Args:
        module: images -> logits (B, D).
        layer: a submodule of it with output (B, C, h, w).

    Raises:
        ValueError: the layer is not part of the module.

    Example:
        >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), head).eval()
        >>> with GradCAM(module, module[0]) as grad_cam:
        ...     grad_cam.cam(torch.ones(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)).shape
        torch.Size([5, 6, 6])
    """

    def __init__(self, module: nn.Module, layer: nn.Module) -> None:
        if all(layer is not part for part in module.modules()):
            raise ValueError(f"the layer ({type(layer).__name__}) is not part of the module ({type(module).__name__})")
        self.module = module
        self.layer = layer
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        self._outputs: list[object] | None = None  # of the layer, while `cam` runs

    def __enter__(self) -> GradCAM:
        self._handle = self.layer.register_forward_hook(self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._handle is not None
        self._handle.remove()
        self._handle = None

    def cam(self, images: Tensor, disease: Tensor) -> Tensor:
        """Return the map of each image, before scaling.

        One backward pass from the sum of the chosen logits serves the batch: in evaluation mode no logit depends on
        another image, so the gradient of the sum at an image's activations is that of its own logit.

        Args:
            images: (B, ...), input of the module.
            disease: (B,) int64, the logit of each image.

        Returns:
            (B, h, w), not negative, float32 or float64. Also inside no_grad and inference_mode.

        Raises:
            ValueError: outside the ``with``; the module is in training mode; the layer was not run, or more than once,
                or gave something else than (B, C, h, w), or the logits do not depend on it; the module gave something
                else than (B, D); a disease is not among the D.
            TypeError: diseases that are no int64.
        """
        if self._handle is None:
            raise ValueError("cam is to be called inside `with GradCAM(module, layer) as grad_cam:`")
        if any(part.training for part in self.module.modules()):
            raise ValueError("the module, or a part of it, is in training mode, where images may depend on each other")
        outputs = self._outputs = []
        try:
            with torch.inference_mode(False), torch.enable_grad():
                logits = self.module(images.clone() if images.is_inference() else images)
        finally:
            self._outputs = None
        if len(outputs) != 1:
            raise ValueError(f"the layer ({type(self.layer).__name__}) must run once, and ran {len(outputs)} times")
        activations = outputs[0]
        if not isinstance(activations, Tensor) or activations.ndim != 4 or len(activations) != len(images):
            raise ValueError(f"the layer must give ({len(images)}, C, h, w), and gave {_describe(activations)}")
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            raise ValueError(f"the module must give logits ({len(images)}, D), and gave {_describe(logits)}")
        _check_disease(disease, *logits.shape)
        gradient = None
        if logits.requires_grad:
            with torch.inference_mode(False), torch.enable_grad():
                chosen = logits.gather(1, disease[:, None]).sum()
                (gradient,) = torch.autograd.grad(chosen, activations, allow_unused=True)
        if gradient is None:
            raise ValueError("the logits do not depend on the layer")
        with torch.no_grad():
            gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
            return _weighted(activations, gradient.mean((2, 3)))

    def _keep(self, layer: nn.Module, inputs: object, output: object) -> object:
        """Cut the graph before the layer's output: the backward pass goes no further, whatever requires a gradient."""
        if self._outputs is None:
            return None
        if not isinstance(output, Tensor):
            self._outputs.append(output)
            return None
        leaf = output.detach().requires_grad_()
        self._outputs.append(leaf)
        return leaf.clone()  # which a ReLU in place may overwrite


@torch.no_grad()
def scale_to_unit(heatmap: Tensor) -> Tensor:
    """Scale each map to [0, 1]: ``(x - min) / (max - min)``.

    Args:
        heatmap: (B, h, w), floating.

    Returns:
        (B, h, w), float32 or float64. A constant map becomes 0, and so does one with a value that is not finite.

    Raises:
        TypeError, ValueError: another dtype or shape, or no pixel.

    Example:
        >>> scale_to_unit(torch.tensor([[[1.0, 3.0, 2.0]]]))
        tensor([[[0.0000, 1.0000, 0.5000]]])
    """
    _check_heatmap(heatmap)
    x = heatmap.to(torch.promote_types(heatmap.dtype, torch.float32))
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    # A constant map is 0 / 0, and one that is not finite has a range of infinity or NaN: NaN, or 0 already
    return (x - low).div_(high - low).nan_to_num_(0.0)


def resize(heatmap: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate maps (B, h, w) bilinearly to a size (H, W): (B, H, W), with ``align_corners=False``.

    Raises:
        TypeError, ValueError: another dtype or shape, no pixel, or a size below 1.

    Example:
        >>> resize(torch.ones(2, 7, 7), (224, 224)).shape
        torch.Size([2, 224, 224])
    """
    _check_heatmap(heatmap)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be two positive numbers (H, W), got {tuple(size)}")
    return F.interpolate(heatmap[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def heatmaps(cam: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, h, w) of :func:`head_cam` or :class:`GradCAM` as heatmaps (B, H, W) in [0, 1].

    They are scaled, resized, and scaled again, as the ``grad-cam`` package does (``utils/image.py``), for interpolation
    may miss the extremes. The package divides by ``1e-7 + max`` where this divides by ``max``. In its first
    normalisation that shrinks a map of extent e (largest less smallest value) by 1 + 1e-7 / e, which its second takes
    back but for 1e-7. So the two differ by more than 1e-5 only where e is below 1e-9 in the package's own scale, with
    its factor 1 / hw: there the package fades a map out, and this does not. A map of one pixel is constant, so 0.

    Raises:
        TypeError, ValueError: as :func:`scale_to_unit` and :func:`resize`.

    Example:
        >>> heatmaps(torch.rand(2, 7, 7), (224, 224)).shape
        torch.Size([2, 224, 224])
    """
    return scale_to_unit(resize(scale_to_unit(cam), size))


def _weighted(activations: Tensor, weights: Tensor) -> Tensor:
    """Return relu(sum_k w_k A_k), (B, h, w), of activations (B, C, h, w) and weights (B, C)."""
    wide = torch.promote_types(activations.dtype, torch.float32)
    # The product is as wide as the wider factor, without a wide copy of the activations
    return (weights.to(wide)[:, :, None, None] * activations.detach()).sum(1).relu()


def _check_disease(disease: Tensor, images: int, diseases: int) -> None:
    check_tensor("disease", disease, "int64", (images,))
    # On a GPU the host would have to wait for the values
    if disease.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = disease[(disease < 0) | (disease >= diseases)].tolist()
        if wrong:
            raise ValueError(f"disease must be from 0 to {diseases - 1}, got {wrong}")


def _check_heatmap(heatmap: Tensor) -> None:
    check_tensor("heatmap", heatmap, "floating point", ("B", "h", "w"))
    if 0 in heatmap.shape[1:]:
        raise ValueError(f"heatmap (B, h, w) must have at least one pixel, got {tuple(heatmap.shape)}")


def _describe(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
