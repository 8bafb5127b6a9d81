"""Keys that are used again at every step: in the state, constant, or given."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxrecipe.checks.step.draws_anew import draws_anew
from jaxrecipe.report.result import Status
from tests.zoo import bare


def keeps_key(*, advances):
    tx, params = optax.adam(1e-2), bare.mlp(jax.random.key(0))

    @jax.jit
    def step(state, batch):
        draw, kept = jax.random.split(state["key"])
        x = jnp.where(jax.random.bernoulli(draw, 0.8, batch[0].shape), batch[0], 0.0)
        loss, grads = jax.value_and_grad(bare.cross_entropy)(state["params"], x, batch[1])
        updates, opt = tx.update(grads, state["opt"])
        new = {"params": optax.apply_updates(state["params"], updates), "opt": opt}
        return {**new, "key": kept if advances else state["key"]}, {"loss": loss}

    state = {"params": params, "opt": tx.init(params), "key": jax.random.PRNGKey(0)}
    return step, state, bare.batches(*bare.data(0))


@pytest.mark.parametrize("name", ["in pieces", "NNX", "Equinox", "variational", "diffusion"])
def test_steps_that_draw_anew_or_not_at_all_pass(run, name):
    assert run(draws_anew, bare.task_of(bare.HEALTHY[name](0))).status is Status.PASS


def test_a_key_in_the_state_must_advance(run):
    assert run(draws_anew, bare.task_of(keeps_key(advances=True))).status is Status.PASS
    result = run(draws_anew, bare.task_of(keeps_key(advances=False)))
    assert (result.status, result.codes) == (Status.FAIL, ("step/key-reused",))


def test_a_constant_key(run):
    result = run(draws_anew, bare.task_of(bare.diffusion(0, constant_key=True)))
    assert (result.status, result.codes) == (Status.FAIL, ("step/key-reused",))


def test_the_same_key_at_every_call(run):
    task = bare.task_of(bare.diffusion(0))
    assert task.loop is not None
    assert task.loop.facts is not None
    for keys, status in (([0, 0, 0, 0], Status.FAIL), ([0, 1, 2, 3], Status.PASS)):
        facts = replace(task.loop.facts, keys=tuple(map(jax.random.key, keys)))
        assert run(draws_anew, task.replace(loop=replace(task.loop, facts=facts))).status is status


@pytest.mark.parametrize("folds", [True, False])
def test_the_same_key_folded_by_a_counter_of_the_state(run, folds: bool):
    def step(state, x, key):
        key = jax.random.fold_in(key, state["step"]) if folds else key
        loss, grads = jax.value_and_grad(lambda w: ((x + jax.random.normal(key, x.shape) @ w) ** 2).mean())(state["w"])
        return {"w": state["w"] - 0.01 * grads, "step": state["step"] + 1}, {"loss": loss}

    batches = [jax.random.normal(jax.random.key(index), (8, 2)) for index in range(4)]
    task = bare.task_of((jax.jit(step), {"w": jnp.eye(2), "step": 0}, batches))
    assert task.loop is not None
    assert task.loop.facts is not None
    facts = replace(task.loop.facts, keys=(jax.random.key(0),) * 4)
    result = run(draws_anew, task.replace(loop=replace(task.loop, facts=facts)))
    assert result.status is (Status.PASS if folds else Status.FAIL)


def test_a_key_used_for_two_draws_is_a_warning(run):
    step, state, batches = bare.diffusion(0)

    def twice(state, x, key):
        return step(state, x + 0.1 * jax.random.normal(key, x.shape), key)

    result = run(draws_anew, bare.task_of((jax.jit(twice), state, batches)))
    assert (result.status, result.codes) == (Status.WARN, ("step/key-used-twice",))
