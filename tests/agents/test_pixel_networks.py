"""Networks for pixels against naive twins in NumPy; their layers and their precision."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.agents import layers, networks
from pixels import frames, picture

PIXELS = ("small", "impala")


@functools.cache
def made(kind, shape=(14, 13, 3), compute="float32"):
    """A tiny network whose biases and heads matter."""
    tiny = (3, 4) if kind == "impala" else (5, 4)
    build = jax.jit(lambda key: networks.make(kind, picture(*shape), 6, tiny, (7,), key, compute))
    network = build(jax.random.key(2))
    noise = jax.random.split(jax.random.key(3), len(jax.tree.leaves(network)))
    leaves, structure = jax.tree.flatten(network)
    moved = [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, noise, strict=True)]
    return jax.tree.unflatten(structure, moved)


# Twins


def relu(x):
    return np.maximum(x, 0.0)


def as64(x):
    return np.asarray(x, np.float64)


def dense(layer, x):
    return as64(layer.weight) @ x + as64(layer.bias)


def convolved(layer, x, stride, before, after):
    """One output cell after the other, on a picture with zeros around it."""
    padded = np.pad(x, (before, after, (0, 0)))
    weight = as64(layer.weight).reshape(-1, 3, 3, x.shape[-1])
    h, w = ((side - 3) // stride + 1 for side in padded.shape[:2])
    found = np.empty((h, w, len(weight)))
    for i in range(h):
        for j in range(w):
            window = padded[i * stride : i * stride + 3, j * stride : j * stride + 3]
            found[i, j] = [np.sum(kernel * window) for kernel in weight] + as64(layer.bias)
    return found


def pooled(x):
    """TensorFlow's "SAME" max-pool, 3 x 3 with stride 2: half of the missing cells before, the others after."""
    h, w = (math.ceil(side / 2) for side in x.shape[:2])
    before = [max((n - 1) * 2 + 3 - side, 0) // 2 for n, side in zip((h, w), x.shape, strict=False)]
    found = np.empty((h, w, x.shape[2]))
    for i in range(h):
        for j in range(w):
            top, left = 2 * i - before[0], 2 * j - before[1]
            found[i, j] = x[max(top, 0) : top + 3, max(left, 0) : left + 3].max(axis=(0, 1))
    return found


def heads(network, x):
    for layer in network.torso:
        x = relu(dense(layer, x))
    return dense(network.actor, x), dense(network.critic, x)[0]


def impala(network, frame):
    x = frame / 255.0
    for block in network.convolutions:
        same = functools.partial(convolved, stride=1, before=(1, 1), after=(1, 1))
        x = pooled(same(block.first, x))
        for one, two in block.residual:
            x = x + same(two, relu(same(one, relu(x))))
    return heads(network, relu(x).ravel())


def small(network, frame):
    patches, *others = network.convolutions
    H, W, C = frame.shape
    h, w = math.ceil(H / 4), math.ceil(W / 4)
    padded = np.zeros((4 * h, 4 * w, C))
    padded[:H, :W] = frame / 255.0
    x = np.array(
        [
            [relu(dense(patches, padded[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].ravel())) for j in range(w)]
            for i in range(h)
        ]
    )
    for layer in others:
        # The last window begins where no cell is left out.
        after = [(math.ceil((side - 3) / 2)) * 2 + 3 - side for side in x.shape[:2]]
        x = np.pad(x, ((0, after[0]), (0, after[1]), (0, 0)))
        x = relu(convolved(layer, x, 2, (0, 0), (0, 0)))
    return heads(network, x.ravel())


@pytest.mark.parametrize(
    ("kind", "twin", "shape"),
    [
        ("impala", impala, (14, 13, 3)),
        ("impala", impala, (17, 12, 1)),
        ("small", small, (14, 13, 3)),
        ("small", small, (16, 16, 3)),
        ("small", small, (17, 12, 1)),
    ],
)
def test_networks_are_their_naive_twins(kind, twin, shape):
    network, frame = made(kind, shape), frames(0, *shape)
    logits, value = jax.jit(lambda x: network(x))(jnp.asarray(frame))
    expected, expected_value = twin(network, frame.astype(np.float64))
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(value, expected_value, atol=1e-4, rtol=1e-4)
    assert np.ptp(expected) > 0.05


def test_impala_is_that_of_the_procgen_protocol():
    network = jax.eval_shape(
        lambda key: networks.make("impala", picture(64, 64, 3), 15, (), (), key), jax.random.key(0)
    )
    # Five convolutions in each block of width c after width b, then 8 x 8 x 32 to 256, then 15 and 1.
    blocks = sum(9 * b * c + 4 * 9 * c * c + 5 * c for b, c in [(3, 16), (16, 32), (32, 32)])
    expected = blocks + (8 * 8 * 32 + 1) * 256 + 257 * 16
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == expected == 626_256


def test_small_has_its_own_widths_where_none_are_given():
    network = jax.eval_shape(
        lambda key: networks.make("small", picture(64, 64, 3), 15, (), (), key), jax.random.key(0)
    )
    expected = 49 * 16 + 9 * 16 * 32 + 32 + 9 * 32 * 32 + 32 + (4 * 4 * 32 + 1) * 256 + 257 * 16 - 16 * 1
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == expected + 16


# Layers


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(5, 5, 2), (8, 7, 3)])
def test_patches_and_xlas_own_convolution_are_one(stride, shape):
    x = jnp.asarray(frames(1, *shape))
    weight = jax.random.normal(jax.random.key(0), (4, 9 * shape[-1]))
    ours, theirs = (f(x, weight, stride) for f in (layers._as_patches, layers._as_xla_does))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)


def test_elsewhere_than_on_a_cpu_convolutions_are_xlas(monkeypatch):
    network, frame = made("impala"), jnp.asarray(frames(0, 14, 13, 3))
    here, _ = jax.jit(lambda x: network(x))(frame)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    there = jax.jit(lambda x: network(x))
    assert there.lower(frame).as_text().count("stablehlo.convolution") == 2 * 5
    np.testing.assert_allclose(there(frame)[0], here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [2, 5, 8, 9])
def test_a_max_pool_and_its_gradient_are_those_of_a_window_reduction(side):
    x = jax.random.normal(jax.random.key(side), (side, side, 2))
    after = 1 + side % 2
    pad = ((side % 2, 1), (side % 2, 1), (0, 0))

    def reduction(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), pad)

    assert after in (1, 2)
    np.testing.assert_array_equal(layers.max_pool(x), reduction(x))
    weigh = jax.random.normal(jax.random.key(1), layers.max_pool(x).shape)
    ours, theirs = (jax.grad(lambda x, f=f: jnp.sum(weigh * f(x)))(x) for f in (layers.max_pool, reduction))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("kind", PIXELS)
def test_bytes_are_255ths(kind):
    network, frame = made(kind), frames(4, 14, 13, 3)
    show = jax.jit(lambda x: network(x))
    bytes_, floats = show(jnp.asarray(frame)), show(jnp.asarray(frame, jnp.float32) / 255)
    for a, b in zip(bytes_, floats, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", PIXELS)
def test_every_pixel_can_be_seen(kind):
    network = made(kind)
    # A max-pool passes one pixel's gradient on: what is not seen in one picture is in another.
    several = jnp.asarray(frames(6, 12, 14, 13, 3), jnp.float32) / 255
    seen = jax.jit(jax.grad(lambda x: jnp.sum(jax.vmap(network)(x)[0][:, 0])))(several)
    assert np.all(np.any(seen != 0, axis=0))


# Precision


@pytest.mark.parametrize("kind", [*PIXELS, "board", "mlp"])
def test_half_precision_is_near_single_and_its_gradients_are_finite(kind):
    shape = (14, 13, 3)
    channels = () if kind == "mlp" else (5, 4)
    build = functools.partial(networks.make, kind, picture(*shape), 6, channels, (7,), jax.random.key(0))
    single, half = (jax.jit(build, static_argnums=0)(compute) for compute in ("float32", "bfloat16"))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half))
    x = jnp.asarray(frames(7, 20, *shape)) // (64 if kind in ("board", "mlp") else 1)

    def loss(network):
        logits, value = jax.vmap(network)(x)
        assert logits.dtype == value.dtype == jnp.float32
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0]) + jnp.mean(value**2), value

    ((_, a), g), ((_, b), h) = (jax.jit(jax.value_and_grad(loss, has_aux=True))(n) for n in (single, half))
    scale = np.abs(a).max()
    assert 0 < np.abs(a - b).max() < 0.03 * scale
    flat, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (g, h))
    assert np.isfinite(other).all() and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(h))
    assert flat @ other / np.linalg.norm(flat) / np.linalg.norm(other) > 0.99
