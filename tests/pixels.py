"""Pictures of pixels, and what describes them."""

import jax
import jax.numpy as jnp
import numpy as np

BYTES = jnp.uint8


def picture(*shape, dtype=BYTES):
    """An observation of this shape."""
    return jax.ShapeDtypeStruct(shape, dtype)


def frames(seed, *shape):
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
