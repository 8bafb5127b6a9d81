"""The generator of steps: batches, donation, several steps a call."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe import trees
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.data.batches import Batch, batch_indices
from jaxrecipe.training.step import make_train_step
from jaxrecipe.training.steps import new_state, train_steps

STEPS = 17  # two epochs of seven steps, and three more


def last(task: Any, state: Any, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The final state, and the metrics of all steps one after the other."""
    collected: list[Any] = []
    final = state
    for final, metrics in train_steps(task, state, **options):  # noqa: B007
        collected.append(jax.device_get(metrics))
    return final, {name: np.concatenate([metrics[name] for metrics in collected]) for name in collected[0]}


def by_hand(task: Any, state: Any, steps: int, seed: int) -> tuple[Any, list[float]]:
    """A bare loop over the documented batches."""
    step, losses = jax.jit(make_train_step(task)), []
    inputs, targets = task.train
    for taken in range(int(state.step), steps):
        indices, mask = batch_indices(seed, taken, len(inputs), task.batch_size)
        state, metrics = step(
            state, Batch(jnp.asarray(inputs[indices]), jnp.asarray(targets[indices]), jnp.asarray(mask))
        )
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize("resident", [True, False])
def test_steps_are_those_of_a_bare_loop(make_task: Any, resident: bool) -> None:
    task = make_task()
    ours, metrics = last(task, new_state(task), steps=STEPS, seed=4, resident=resident)
    bare, losses = by_hand(task, new_state(task), STEPS, seed=4)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours.params, bare.params)
    assert [int(count) for count in metrics["count"]] == ([8] * 6 + [2]) * 2 + [8] * 3


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("steps_per_call", [5, 17, 50])
def test_several_steps_a_call_give_the_same(make_task: Any, steps_per_call: int, resident: bool) -> None:
    task = make_task()
    single, one = last(task, new_state(task), steps=STEPS, resident=True)
    several, many = last(task, new_state(task), steps=STEPS, resident=resident, steps_per_call=steps_per_call)
    # Measured equal to the last bit on CPU; not promised, since XLA may fuse a loop's body differently.
    np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), several.params, single.params)
    assert int(several.step) == STEPS


def test_stopping_anywhere_changes_no_bit(make_task: Any, same: Any) -> None:
    task = make_task()
    whole, _ = last(task, new_state(task), steps=STEPS)
    part, _ = last(task, new_state(task), steps=9)
    assert same(last(task, part, steps=STEPS)[0], whole)


def test_the_given_state_stays_usable_and_a_kept_copy_too(make_task: Any, same: Any) -> None:
    task = make_task()
    given = new_state(task)
    before = trees.copy(given)
    kept = [trees.copy(state) for state, _ in train_steps(task, given, steps=3)]
    assert same(given, before)
    assert [int(state.step) for state in kept] == [1, 2, 3]
    assert same(kept[1], last(task, given, steps=2)[0])


@pytest.mark.parametrize("resident", [True, False])
def test_one_compile_of_the_step(make_task: Any, resident: bool) -> None:
    task = make_task()
    running = train_steps(task, new_state(task), steps=16, steps_per_call=2, resident=resident)
    next(running)
    with counting_compiles() as compiles:
        for _ in running:
            pass
    assert compiles.programs == 0


def test_the_seed_decides_the_order_of_the_batches(make_task: Any, same: Any) -> None:
    task = make_task()
    state = new_state(task)
    assert same(last(task, state, steps=3, seed=1)[0], last(task, state, steps=3, seed=1)[0])
    assert not same(last(task, state, steps=3, seed=1)[0].params, last(task, state, steps=3, seed=2)[0].params)
    assert not same(new_state(task, seed=1).params, new_state(task, seed=2).params)


def test_fewer_examples_than_a_batch(make_task: Any) -> None:
    task = make_task(size=5)
    _, metrics = last(task, new_state(task), steps=3)
    assert list(metrics["count"]) == [5, 5, 5]


def test_nothing_to_do_and_too_late(make_task: Any) -> None:
    task = make_task()
    done, _ = last(task, new_state(task), steps=2)
    assert list(train_steps(task, done, steps=2)) == []
    with pytest.raises(ValueError, match="at step 2 already"):
        next(train_steps(task, done, steps=1))
    with pytest.raises(ValueError, match="steps_per_call=0"):
        next(train_steps(task, done, steps=3, steps_per_call=0))


def test_an_error_in_the_data_comes_through(make_task: Any) -> None:
    class Broken:
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            if index == 13:
                raise OSError("unreadable")
            return np.zeros(6, np.uint8), np.int32(0)

    task = make_task(train=Broken())
    with pytest.raises(OSError, match="unreadable"):
        last(task, new_state(make_task()), steps=3, resident=False)
