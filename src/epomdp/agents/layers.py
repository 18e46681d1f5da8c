"""What networks are made of: orthogonal weights, dense layers, convolutions, residual blocks.

Layers keep their weights in single precision and compute in the precision that they are told.
"""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

KERNEL = 3
"""Every convolution looks at 3 x 3 cells."""


def orthogonal(key: Array, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """A uniformly random matrix of orthonormal rows, or columns where these are fewer (Saxe et al. 2014).

    By Gram and Schmidt, each vector twice ("twice is enough", Giraud, Langou and Rozloznik 2005). Not by
    `jnp.linalg.qr`: under `vmap` over members LAPACK's batches wait, in threads of XLA's pool, for threads of
    the same pool, and on a machine of two cores two such calls at a time wait for ever.
    """
    few, many = sorted((rows, columns))
    gaussian = jax.random.normal(key, (few, many))

    def add(i, basis):
        vector = gaussian[i]
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        return basis.at[i].set(vector / jnp.linalg.norm(vector))

    basis = jax.lax.fori_loop(0, few, add, jnp.zeros_like(gaussian))
    return basis if rows == few else basis.T


class Linear(eqx.Module):
    """Dense layer with orthogonal weights of the given gain and zero biases; computes in its input's precision."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, size_in: int, size_out: int, gain: float, key: Array):
        self.weight = gain * orthogonal(key, size_out, size_in)
        self.bias = jnp.zeros(size_out)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.weight.astype(x.dtype) @ x + self.bias.astype(x.dtype)


def positions(side: int, stride: int) -> int:
    """How often a window of 3 cells fits along a side, every cell being in one at least."""
    return math.ceil((side - KERNEL) / stride) + 1


def convolve(
    x: Array, weight: Float[Array, "out K"], stride: int, dtype: DTypeLike
) -> Float[Array, "h w out"]:
    """3 x 3 convolution of an (H, W, C) picture without padding; K = 9 C goes over rows, columns, channels.

    On a CPU as patches and one matrix product, which is several times faster than XLA's own convolution, whose
    gradients are slow inside a loop; elsewhere as XLA's own.
    """
    product = _as_patches if jax.default_backend() == "cpu" else _as_xla_does
    return product(x, weight.astype(dtype), stride)


def _as_patches(x: Array, weight: Float[Array, "out K"], stride: int) -> Float[Array, "h w out"]:
    rows, columns = ((side - KERNEL) // stride * stride + 1 for side in x.shape[:2])
    shifted = [
        x[i : i + rows : stride, j : j + columns : stride] for i in range(KERNEL) for j in range(KERNEL)
    ]
    # Planes are bytes: they are gathered as such and become floats at the last moment.
    return jnp.concatenate(shifted, axis=-1).astype(weight.dtype) @ weight.T


def _as_xla_does(x: Array, weight: Float[Array, "out K"], stride: int) -> Float[Array, "h w out"]:
    kernel = weight.T.reshape(KERNEL, KERNEL, -1, weight.shape[0])
    order = ("NHWC", "HWIO", "NHWC")
    batch = x[None].astype(weight.dtype)
    return jax.lax.conv_general_dilated(batch, kernel, (stride, stride), "VALID", dimension_numbers=order)[0]


class Convolution(eqx.Module):
    """3 x 3 convolution of an (H, W, C) picture without padding.

    Where the stride would leave a last row or column out, one of zeros is added.
    """

    weight: Float[Array, "out K"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True)
    relu: bool = eqx.field(static=True)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        key: Array,
        *,
        gain: float = math.sqrt(2.0),
        relu: bool = False,
    ):
        self.weight = gain * orthogonal(key, channels_out, KERNEL**2 * channels_in)
        self.bias = jnp.zeros(channels_out)
        self.stride = stride
        self.relu = relu

    def __call__(self, x: Float[Array, "H W C"], dtype: DTypeLike = jnp.float32) -> Float[Array, "h w out"]:
        needed = [(positions(side, self.stride) - 1) * self.stride + KERNEL for side in x.shape[:2]]
        missing = [(0, wanted - side) for wanted, side in zip(needed, x.shape, strict=False)]
        x = convolve(jnp.pad(x, (*missing, (0, 0))), self.weight, self.stride, dtype)
        x = x + self.bias.astype(dtype)
        return jax.nn.relu(x) if self.relu else x


def pixels(x: Array, dtype: DTypeLike) -> Float[Array, "H W C"]:
    """A picture with values in [0, 1]: bytes are divided by 255, floats are taken to be so already."""
    whole = jnp.issubdtype(x.dtype, jnp.integer)
    return x.astype(dtype) / 255 if whole else x.astype(dtype)


class Patches(eqx.Module):
    """A dense layer with ReLU on every square of 4 x 4 pixels: a convolution whose stride is its kernel's side."""

    weight: Float[Array, "out K"]
    bias: Float[Array, " out"]

    SIDE = 4

    def __init__(self, channels_in: int, channels_out: int, key: Array):
        self.weight = math.sqrt(2.0) * orthogonal(key, channels_out, self.SIDE**2 * channels_in)
        self.bias = jnp.zeros(channels_out)

    def __call__(self, x: Array, dtype: DTypeLike = jnp.float32) -> Float[Array, "h w out"]:
        side, (H, W, C) = self.SIDE, x.shape
        h, w = (math.ceil(length / side) for length in (H, W))
        x = jnp.pad(x, ((0, h * side - H), (0, w * side - W), (0, 0)))
        squares = x.reshape(h, side, w, side, C).swapaxes(1, 2).reshape(h, w, -1)
        x = pixels(squares, dtype) @ self.weight.astype(dtype).T
        return jax.nn.relu(x + self.bias.astype(dtype))


class ImpalaBlock(eqx.Module):
    """A stage of IMPALA's residual network: convolution, max-pool with stride 2, two residual blocks.

    References: Espeholt et al. 2018, arXiv 1802.01561, figure 3, right.
    """

    first: Convolution
    residual: tuple[tuple[Convolution, Convolution], ...]
    relu: bool = eqx.field(static=True)

    def __init__(self, channels_in: int, channels_out: int, key: Array, *, relu: bool):
        # A gain of 1 keeps the sums of residual blocks small.
        unit = functools.partial(Convolution, channels_out=channels_out, stride=1, gain=1.0)
        keys = jax.random.split(key, 5)
        self.first = unit(channels_in, key=keys[0])
        a, b, c, d = (unit(channels_out, key=k) for k in keys[1:])
        self.residual = ((a, b), (c, d))
        self.relu = relu

    def __call__(self, x: Array, dtype: DTypeLike = jnp.float32) -> Float[Array, "h w out"]:
        def same(convolution, x):
            return convolution(jnp.pad(x, ((1, 1), (1, 1), (0, 0))), dtype)

        x = max_pool(same(self.first, pixels(x, dtype)))
        for one, two in self.residual:
            x = x + same(two, jax.nn.relu(same(one, jax.nn.relu(x))))
        return jax.nn.relu(x) if self.relu else x


def max_pool(x: Float[Array, "H W C"]) -> Float[Array, "h w C"]:
    """The largest of every 3 x 3 cells with stride 2, each side halved and rounded up.

    Windows that reach over the edge take what there is: by one cell after the end where a side is even, by one
    before the beginning and one after the end where it is odd.
    """
    for axis in (0, 1):
        side = x.shape[axis]
        pad = [(0, 0)] * 3
        pad[axis] = (side % 2, 1)
        x = jnp.pad(x, pad, constant_values=-jnp.inf)
        last = 2 * ((side + 1) // 2) - 1
        # Slices instead of a window reduction, whose gradient is slow on a CPU.
        a, b, c = (jax.lax.slice_in_dim(x, i, i + last, 2, axis) for i in range(KERNEL))
        x = jnp.maximum(jnp.maximum(a, b), c)
    return x
