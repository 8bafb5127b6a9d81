"""The few examples, what they allow, and the run on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import SINGLES
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, memorize, relative_change
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import contrastive_task, digits_task, regression_task, three_parameters_task


def short(task: object, **changes: object) -> Run:
    given = {"examples": 8, "closed": 0.95, "steps": 3, "patience": 200, **changes}
    return memorize(make_setup(task), jax.random.key(0), **given)  # pyright: ignore[reportArgumentType]


def test_the_examples_of_single_batches_differ_and_are_all_measured() -> None:
    run = short(digits_task().replace(batch_size=1))
    assert len(run.batches) == SINGLES == len(run.inputs) == len(run.outputs)
    assert all(len(inputs) == 1 for inputs, _ in run.batches)
    assert np.array_equal(np.concatenate([inputs for inputs, _ in run.batches]), run.inputs)
    assert len(run.moved) == 3 == len(run.steps) - 1


def test_a_full_batch_holds_a_few_examples_again_and_again() -> None:
    task = digits_task()
    run, batch = short(task, examples=3), make_setup(task).batch
    inputs = np.asarray(run.inputs)
    assert len(inputs) == task.batch_size
    assert np.array_equal(inputs, np.asarray(batch[0])[np.arange(task.batch_size) % 3])
    assert np.array_equal(run.targets, np.asarray(batch[1])[np.arange(task.batch_size) % 3])


def test_fewer_examples_where_there_are_few_parameters() -> None:
    run = short(three_parameters_task())
    assert len(np.unique(np.asarray(run.inputs), axis=0)) == 2


def test_a_loss_that_compares_examples_gets_its_batch_as_it_is() -> None:
    setup = make_setup(contrastive_task())
    run = short(contrastive_task())
    assert all(map(np.array_equal, jax.tree.leaves(run.inputs), jax.tree.leaves(setup.batch[0])))


def test_what_constant_and_perfect_outputs_score_against_numpy() -> None:
    run = short(regression_task())
    values = np.asarray(run.targets, np.float64)
    losses = np.asarray(make_setup(regression_task()).losses(jnp.zeros_like(run.targets), run.targets), np.float64)
    ratio = losses.mean() / np.square(values).mean()  # of the task's own squared error
    assert run.uninformed == pytest.approx(ratio * np.square(values - values.mean(axis=0)).mean(), rel=1e-3)
    assert run.minimum == pytest.approx(0.0, abs=1e-6)
    assert run.best_accuracy == {}
    assert short(digits_task()).best_accuracy == {"": 1.0}


def test_conflicting_labels_bound_the_accuracy() -> None:
    """Equal images with different labels: only the commoner label can be right."""
    task = digits_task()
    x, y = np.repeat(task.train[0][:1], 64, axis=0), np.arange(64) % 2
    run = short(task.replace(train=(x, y.astype(np.int32)), test=None))
    shares = np.bincount(np.asarray(run.targets)) / len(run.targets)
    assert 0.5 <= shares.max() < 1.0
    assert run.best_accuracy == {"": pytest.approx(shares.max())}
    assert run.minimum == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-3)


def test_the_run_ends_when_the_gap_is_closed_or_nothing_moves_on() -> None:
    done = short(digits_task(), steps=400)
    assert done.memorized
    assert not done.stalled
    assert done.closed >= 0.95
    assert done.right(1.0)
    assert done.steps[-1] < 400
    stuck = short(digits_task(), steps=400, patience=0, closed=1.1)
    assert stuck.stalled
    assert not stuck.memorized


def test_fractions_of_the_gap() -> None:
    run = Run(minimum=1.0, best_accuracy={}, uninformed=3.0, state=None, inputs=None, targets=None, batches=[])
    assert [run.fraction_closed(loss) for loss in (3.0, 2.0, 1.0, 0.5, 5.0)] == [0.0, 0.5, 1.0, 1.0, -1.0]


def test_relative_change_against_numpy() -> None:
    before = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.zeros((2, 2))}
    after = {"a": jnp.asarray([3.0, 4.5]), "b": jnp.full((2, 2), 0.25)}
    assert float(relative_change(before, after)) == pytest.approx(np.sqrt(0.25 + 4 * 0.0625) / 5.0)
    assert float(relative_change(before, before)) == 0.0
