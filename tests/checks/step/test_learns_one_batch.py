"""Learning rates that are off by orders of magnitude and steps that go uphill, by runs with scaled updates."""

import jax
import optax
import pytest

from jaxrecipe.checks.step.learns_one_batch import learns_one_batch
from jaxrecipe.report.result import Status
from tests.zoo import bare


def uphill(old, new):
    return jax.tree.map(lambda before, after: 2 * before - after, old[0], new[0]), new[1], new[2]


def rate(optimizer):
    return bare.in_pieces(optimizer=optimizer)


@pytest.mark.parametrize(
    "name", ["in pieces", "TrainState", "Equinox", "policy gradient", "adversarial", "variational"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_that_learns_passes(run, name, seed):
    assert run(learns_one_batch, bare.task_of(bare.HEALTHY[name](seed))).status is Status.PASS


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: bare.in_pieces(edit=uphill), "step/goes-uphill"),
        (lambda: bare.in_pieces(edit=uphill, optimizer=optax.sgd(0.1)), "step/goes-uphill"),
        (lambda: rate(optax.sgd(-0.1, momentum=0.9)), "step/goes-uphill"),
        (lambda: rate(optax.sgd(30.0)), "optimizer/learning-rate-too-high"),
        (lambda: rate(optax.adam(10.0)), "optimizer/learning-rate-too-high"),
        (lambda: rate(optax.sgd(1e-5)), "optimizer/learning-rate-too-low"),
        (lambda: rate(optax.adam(1e-7)), "optimizer/learning-rate-too-low"),
    ],
)
def test_sign_and_size_of_the_updates(run, made, code):
    result = run(learns_one_batch, bare.task_of(made()))
    assert result.status is Status.FAIL, result
    assert result.codes == (code,)


def test_a_long_warm_up_is_at_most_a_warning(run):
    slow = optax.linear_schedule(0.0, 0.01, 100_000)
    result = run(learns_one_batch, bare.task_of(rate(optax.adam(slow))))
    assert result.status is Status.WARN
    assert result.codes == ("optimizer/warm-up-too-long",)


@pytest.mark.parametrize("reports", [lambda loss: -loss, lambda loss: {"elbo": -loss}])
def test_a_score_that_rises_is_no_failure(run, reports):
    result = run(learns_one_batch, bare.task_of(bare.variational(0, reports=reports)))
    assert result.status is not Status.FAIL


def test_without_a_loss_nothing_is_said(run):
    made = bare.in_pieces(edit=lambda _old, new: (new[0], new[1], {"a": new[2], "b": new[2]}))
    assert run(learns_one_batch, bare.task_of(made)).status is Status.SKIP
