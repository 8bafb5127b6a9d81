"""Parameters that stand still, frozen ones that move, optimizer states and statistics that are dropped."""

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxrecipe.checks.step.carries_state import carries_state
from jaxrecipe.report.result import Status
from tests.zoo import bare


def old_optimizer_state(old, new):
    return new[0], old[1], new[2]


def old_parameters(old, new):
    return old[0], new[1], new[2]


def without_optimizer_state(_old, new):
    return new[0], new[2]


def old_moments_new_count(old, new):
    adam = new[1][0]._replace(mu=old[1][0].mu, nu=old[1][0].nu)
    return new[0], (adam, *new[1][1:]), new[2]


def all_zero():
    params = jax.tree.map(jnp.zeros_like, bare.mlp(jax.random.key(0)))
    return bare.in_pieces(params=params)


def all_alike():
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.1), bare.mlp(jax.random.key(0)))
    return bare.in_pieces(params=params)


def statistics_thrown_away():
    tx, params = optax.sgd(0.1), bare.mlp(jax.random.key(0))

    @jax.jit
    def step(state, batch):
        def loss_of(params):
            x = (batch[0] - batch[0].mean(0)) / jnp.sqrt(batch[0].var(0) + 1e-5)
            return bare.cross_entropy(params, x, batch[1])

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        updates, opt = tx.update(grads, state["opt"])
        new = {**state, "params": optax.apply_updates(state["params"], updates), "opt": opt}
        return new, {"loss": loss}

    stats = {"norm": {"mean": jnp.zeros(bare.FEATURES), "var": jnp.ones(bare.FEATURES)}}
    return step, {"params": params, "opt": tx.init(params), "batch_stats": stats}, bare.batches(*bare.data(0))


@pytest.mark.parametrize("name", ["in pieces", "TrainState", "NNX", "adversarial", "diffusion", "collecting gradients"])
def test_what_is_carried_passes(run, name):
    assert run(carries_state, bare.task_of(bare.HEALTHY[name](0))).status is Status.PASS


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: bare.in_pieces(edit=old_parameters), "step/updates-thrown-away"),
        (lambda: bare.in_pieces(edit=old_optimizer_state), "step/optimizer-state-lost"),
        (lambda: bare.in_pieces(edit=without_optimizer_state), "step/optimizer-state-lost"),
        (
            lambda: bare.in_pieces(edit=old_optimizer_state, optimizer=optax.sgd(0.1, momentum=0.9)),
            "step/optimizer-state-lost",
        ),
        (
            lambda: bare.in_pieces(
                edit=old_optimizer_state, optimizer=optax.sgd(optax.exponential_decay(0.1, 10, 0.5))
            ),
            "step/optimizer-state-lost",
        ),
        (statistics_thrown_away, "step/statistics-thrown-away"),
        (all_zero, "model/zero-initialization"),
        (all_alike, "model/identical-units"),
    ],
)
def test_what_is_dropped_is_called_by_its_name(run, made, code):
    result = run(carries_state, bare.task_of(made()))
    assert result.status is Status.FAIL, result
    assert result.codes[0] == code
    assert result.findings[0].causes[0].code == code


def test_a_state_that_needs_no_carrying_may_be_dropped(run):
    """A constant rate: optax keeps nothing that the step reads."""
    made = bare.in_pieces(edit=old_optimizer_state, optimizer=optax.sgd(0.1))
    assert run(carries_state, bare.task_of(made)).status is Status.PASS


def test_frozen_by_design_is_at_most_a_warning_and_declared_it_is_none(run):
    task = bare.task_of(bare.fine_tuning(0))
    result = run(carries_state, task)
    assert (result.status, result.codes) == (Status.WARN, ("model/unused-parameters",))
    assert run(carries_state, task.replace(frozen=("layer_0/*",))).status is Status.PASS
    broken = run(carries_state, task.replace(frozen=("layer_1/*", "layer_0/*")))
    assert (broken.status, broken.codes) == (Status.FAIL, ("optimizer/declared-frozen-moves",))


def test_a_copy_that_never_follows_is_a_warning(run):
    step, state, batches = bare.diffusion(0)

    def forgets(state, batch, key):
        new, metrics = step(state, batch, key)
        return {**new, "ema": state["ema"]}, metrics

    result = run(carries_state, bare.task_of((forgets, state, batches)))
    assert (result.status, result.codes) == (Status.WARN, ("step/copy-stands-still",))


def test_a_target_network_that_is_given_and_not_returned_is_a_warning(run):
    step, (params, opt_state), batches = bare.in_pieces()
    target = jax.tree.map(lambda leaf: leaf + 0.5, params)

    @jax.jit
    def with_target(params, opt_state, target, batch):
        params, opt_state, loss = step(params, opt_state, batch)
        return params, opt_state, loss + 0.0 * bare.cross_entropy(target, *batch)

    result = run(carries_state, bare.task_of((with_target, (params, opt_state, target), batches)))
    assert (result.status, result.codes) == (Status.WARN, ("step/piece-not-returned",))
