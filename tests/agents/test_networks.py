"""Networks: orthogonal weights, and no call that may wait for threads of its own pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from epomdp import drivers
from epomdp import train as training
from epomdp.agents.layers import orthogonal
from epomdp.train import Settings


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (10, 64), (64, 10), (64, 64), (256, 256)])
def test_the_few_are_orthonormal(shape):
    matrix = np.asarray(orthogonal(jax.random.key(3), *shape))
    assert matrix.shape == shape
    few = matrix if shape[0] <= shape[1] else matrix.T
    np.testing.assert_allclose(few @ few.T, np.eye(min(shape)), atol=1e-5)


def test_they_are_numpys_householder_factors_with_positive_diagonal():
    key = jax.random.key(0)
    gaussian = np.asarray(jax.random.normal(key, (6, 9)), np.float64)
    q, r = np.linalg.qr(gaussian.T)
    np.testing.assert_allclose(orthogonal(key, 6, 9), (q * np.sign(np.diag(r))).T, atol=1e-5)


def test_their_directions_are_uniform():
    matrices = jax.vmap(lambda key: orthogonal(key, 2, 2))(jax.random.split(jax.random.key(1), 2000))
    angles = np.arctan2(np.asarray(matrices[:, 1, 1]), np.asarray(matrices[:, 1, 0]))
    assert kstest((angles + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("agent", ["ppo", "leep", "leep-mean", "unlinked", "dqn"])
def test_a_run_starts_without_calls_to_lapack(agent):
    # A batch of these hangs where the pool has two threads.
    setup = training.prepare(Settings("guess", agent).resolved())
    driver = drivers.make(setup.problem.env, setup.agent, setup.parts.train, setup.resamples)
    lowered = jax.jit(driver.initial).lower(jax.random.key(0))
    assert "lapack" not in lowered.as_text()


def test_lapack_would_be_seen():
    lowered = jax.jit(jax.vmap(jnp.linalg.qr)).lower(jnp.zeros((4, 3, 3)))
    assert "lapack" in lowered.as_text()
