"""Steps that use their batch, and those that close over one, ignore its inputs, or have nothing to learn from them."""

import jax
import numpy as np
import pytest

from jaxrecipe.checks.step.learns_from_inputs import learns_from_inputs
from jaxrecipe.report.result import Status
from tests.zoo import bare


def closes_over_a_batch():
    step, state, batches = bare.in_pieces()
    first = jax.tree.map(jax.numpy.asarray, batches[0])
    return jax.jit(lambda params, opt_state, batch: step(params, opt_state, first)), state, batches


def ignores_inputs():
    return bare.in_pieces(loss=lambda params, x, y: bare.cross_entropy(params, 0.0 * x, y))


@pytest.mark.parametrize("name", ["in pieces", "policy gradient", "variational", "contrastive"])
def test_steps_that_use_their_batch_pass(run, name):
    assert run(learns_from_inputs, bare.task_of(bare.HEALTHY[name](0))).status is Status.PASS


@pytest.mark.parametrize(
    ("made", "code"), [(closes_over_a_batch, "step/same-batch"), (ignores_inputs, "model/input-ignored")]
)
def test_what_is_not_used_is_a_failure(run, made, code):
    result = run(learns_from_inputs, bare.task_of(made()))
    assert (result.status, result.codes) == (Status.FAIL, (code,))


def test_shuffled_targets_are_a_warning(run):
    step, state, _ = bare.in_pieces()
    x, y = bare.data(0)
    shuffled = bare.batches(x, np.random.default_rng(0).permutation(y))
    result = run(learns_from_inputs, bare.task_of((step, state, shuffled)), steps=20)
    assert (result.status, result.codes) == (Status.WARN, ("data/inputs-do-not-help",))


def test_targets_that_are_not_used_are_no_finding(run):
    result = run(learns_from_inputs, bare.task_of(bare.variational(0)))
    assert not result.codes
