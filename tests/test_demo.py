"""The demonstration: each planted bug is caught. That the healthy set-up learns and is clean under every check is in
`test_cli.py`, where the whole command runs.
"""

from collections.abc import Iterator

import jax
import numpy as np
import optax
import pytest

from jaxrecipe import trees
from jaxrecipe.catalogue.own_loop import own_loop, with_own_loop
from jaxrecipe.checks.table import RECIPE
from jaxrecipe.demo.bugs import BUGS, Bug, find_bug
from jaxrecipe.demo.digits import digits_task, scale, shift
from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.recipe import check
from jaxrecipe.report.result import Status
from jaxrecipe.setup import make_setup
from tests.promises import broken_promises

EXISTING = {one.name for one in RECIPE}
CATCHABLE = [bug for bug in BUGS if EXISTING & set(bug.caught_by)]


@pytest.fixture(autouse=True)
def promotion_as_users_have_it() -> Iterator[None]:
    """optax mixes floats and counters, and a loop written by hand does not guard it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("bug", CATCHABLE, ids=lambda bug: bug.name)
def test_each_bug_is_caught_by_a_check_that_names_it(bug: Bug) -> None:
    report = check(bug.plant(digits_task()), only=EXISTING & set(bug.caught_by))
    assert not [result.headline for result in report.results if result.status is Status.CRASHED]
    assert not [promise for result in report.results for promise in broken_promises(result)]
    caught = [result for result in report.results if result.status is Status.FAIL]
    assert caught, f"{bug.name} was not caught: {[(result.name, result.headline) for result in report.results]}"
    named = [cause.code for cause in report.causes]
    assert set(named[:3]) & set(bug.causes), named


def test_the_data_are_the_real_digits_split_by_the_seed() -> None:
    from sklearn.datasets import load_digits

    task, other = digits_task(), digits_task(seed=1)
    both = np.concatenate([task.train[0], task.test[0]])[..., 0].reshape(-1, 64)
    real = load_digits().data.astype(np.uint8)
    assert np.array_equal(both[np.lexsort(both.T)], real[np.lexsort(real.T)])
    assert not np.array_equal(task.test[0], other.test[0])


def test_prepare_and_augment() -> None:
    task = digits_task()
    images, labels = (leaf[:32] for leaf in task.train)
    scaled, same = scale(jax.numpy.asarray(images), jax.numpy.asarray(labels))
    assert np.array_equal(np.asarray(scaled), images.astype(np.float32) / 16)
    assert np.array_equal(same, labels)
    moved, same = shift(jax.random.key(0), scaled, same)
    assert np.array_equal(same, labels)
    padded = np.pad(np.asarray(scaled), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for image, around in zip(np.asarray(moved), padded, strict=True):
        windows = [around[top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
        assert any(np.array_equal(image, window) for window in windows)


def test_the_list_of_bugs() -> None:
    names = [bug.name for bug in BUGS]
    assert len(names) == len(set(names)) >= 10
    assert all(bug.breaks.endswith(".") and bug.caught_by for bug in BUGS)
    assert all(bug.causes and set(bug.causes) <= set(CAUSES) for bug in BUGS)
    assert find_bug("softmax-twice") is find_bug("softmax_twice")
    with pytest.raises(ValueError, match=r"no bug is called 'nothing'.*softmax_twice"):
        find_bug("nothing")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planting_leaves_the_healthy_task_as_it_was(bug: Bug) -> None:
    task = digits_task()
    before = jax.tree.map(np.copy, (task.train, task.test))
    fields = dict(vars(task))
    planted = bug.plant(task)
    assert planted is not task
    assert vars(task) == fields
    assert jax.tree.all(jax.tree.map(np.array_equal, before, (task.train, task.test)))
    changed = {name for name, value in vars(planted).items() if value is not fields[name]} - {"name"}
    assert len(changed) == 1 or changed == {"train", "test"}, "one change to the set-up"


def test_reshape_for_transpose_mixes_the_rows_of_images() -> None:
    """By a loop: what the first image becomes is the first row of eight images."""
    task = digits_task()
    images = np.asarray(task.train[0][:16], np.float32)
    seen: list[np.ndarray] = []
    spy = task.replace(
        model=task.model.__class__(
            init=task.model.init,
            apply=lambda params, state, inputs, *, train, key: (seen.append(np.asarray(inputs)), state),
        )
    )
    find_bug("reshape_for_transpose").plant(spy).model.apply({}, {}, jax.numpy.asarray(images), train=False, key=None)
    flat = [images[i, row] for row in range(8) for i in range(16)]
    assert np.array_equal(seen[0][0], np.stack(flat[:8]))


def test_a_loop_written_by_hand_takes_the_steps_of_the_library() -> None:
    """Two independent programs for one set-up: equal parameters after three steps (healthy), none moved (the bug)."""
    task = digits_task()
    ours, theirs = make_setup(task), make_setup(with_own_loop(task))
    thrown = make_setup(find_bug("updates_thrown_away").plant(task))
    params, model_state = ours.variables
    states = [ours.fresh_state()]
    for _ in (theirs, thrown):
        own = jax.tree.map(jax.numpy.array, {"params": params, "stats": model_state, "step": np.zeros((), np.int32)})
        states.append({**own, "opt": task.optimizer.init(own["params"])})
    for step in range(3):
        batch, key = ours.training_batch(step), jax.random.key(step)
        states = [
            setup.step(state, *batch, key)[0] for setup, state in zip((ours, theirs, thrown), states, strict=True)
        ]
    left, right, still = (s.loop.variables(state)[0] for s, state in zip((ours, theirs, thrown), states, strict=True))
    assert float(trees.global_norm(jax.tree.map(lambda a, b: a - b, left, right))) < 1e-4
    assert float(trees.global_norm(jax.tree.map(lambda a, b: a - b, left, params))) > 1e-2
    assert jax.tree.all(jax.tree.map(np.array_equal, still, params))


def test_evaluating_without_the_last_batch_misses_examples() -> None:
    task = digits_task()
    healthy, broken = own_loop(task), find_bug("last_batch_dropped").plant(task).loop
    assert healthy.evaluate is not None
    assert broken is not None
    assert broken.evaluate is not None
    state = healthy.init(jax.random.key(0))
    inputs, labels = scale(*(jax.numpy.asarray(leaf[:100]) for leaf in task.test))
    outputs, _ = task.model.apply(state["params"], state["stats"], inputs, train=False, key=None)
    losses = np.asarray(optax.softmax_cross_entropy_with_integer_labels(outputs, labels), np.float64)
    for size in (1, 7, 100):
        assert healthy.evaluate(state, inputs, labels, size)["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert broken.evaluate(state, inputs, labels, 64)["loss"] == pytest.approx(losses[:64].mean(), rel=1e-5)
