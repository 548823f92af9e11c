"""Intensities of an image as the features see them: in float64, normalised if the settings say so."""

import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import BOX_COLUMNS, MOMENT_COLUMNS, MOMENT_DEVIATION, MOMENT_MEAN, X0, Y0, Z0

LOWEST = tl.constexpr(-(2**63))


@triton.jit
def corner_of(box, k, stride_z, stride_y, stride_x):
    """Return where a region's box begins within its image, in elements: a scalar."""
    row = box + BOX_COLUMNS * k
    return tl.load(row + Z0) * stride_z + tl.load(row + Y0) * stride_y + tl.load(row + X0) * stride_x


@triton.jit
def elements_of(stride_z, stride_y, stride_x, z, y, x, depth):
    """Return where voxels z, y, x of a block lie from its corner on, in elements: int64."""
    at = y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
    if depth > 1:  # z is 0 in a plane
        at += z.to(tl.int64) * stride_z
    return at


@triton.jit
def intensity(
    # inputs
    images, moments,
    # settings
    scale, limit,
    # voxels
    b, at, mask,
    NORMALISE: tl.constexpr, CLIP: tl.constexpr,
):  # fmt: skip
    """Return the intensities of image b's voxels in float64; a voxel outside of ``mask`` counts as 0.

    ``images``: of any real type; ``at``: where in it the voxels lie, in elements; ``moments``: (B, 2) float64, mean and
    standard deviation of each image; ``scale``: factor after normalising; ``limit``: bound, in standard deviations,
    that values are clipped to; both as :func:`bits_of`.
    """
    value = tl.load(images + at, mask=mask, other=0).to(tl.float64)
    if NORMALISE:
        mean = tl.load(moments + MOMENT_COLUMNS * b + MOMENT_MEAN)
        reciprocal = 1.0 / tl.load(moments + MOMENT_COLUMNS * b + MOMENT_DEVIATION)
        value = (value + -mean) * reciprocal
        if CLIP:
            bound = float_of(limit)
            value = tl.where(value < -bound, -bound, value)  # NaN stays
            value = tl.where(value > bound, bound, value)
        value = value * float_of(scale)
    return value


@triton.jit
def key_of(value):
    """Return an int64 that orders like the float64 value; -0.0 is 0.0, and NaN lies beyond the infinity of its sign."""
    bits = value.to(tl.int64, bitcast=True)
    return tl.where(bits < 0, LOWEST - bits, bits)


@triton.jit
def value_of(key):
    """Return the float64 of a key made by :func:`key_of`."""
    return tl.where(key < 0, LOWEST - key, key).to(tl.float64, bitcast=True)


@triton.jit
def float_of(bits):
    """Return the float64 (1,) of an argument made by :func:`bits_of`."""
    return (tl.zeros((1,), tl.int64) + bits).to(tl.float64, bitcast=True)


def bits_of(value: float) -> int:
    """Return the bits of a float64 as an integer: Triton would round a float argument to float32."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


def readable(images: Tensor) -> Tensor:
    """Return the images in a type that kernels can point to."""
    return images.view(torch.uint8) if images.dtype == torch.bool else images


def normalisation(moments: Tensor | None, remove_outliers: float) -> dict[str, bool]:
    """Return the constants of :func:`intensity`; outliers are removed from normalised images alone."""
    return {"NORMALISE": moments is not None, "CLIP": moments is not None and remove_outliers > 0}
