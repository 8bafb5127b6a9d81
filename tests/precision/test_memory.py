"""Predicted memory: against bytes counted by hand and against the compiler at other sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.precision import memory
from jaxrecipe.precision.memory import largest_batch, predict_memory, resized, step_memory

WIDTH = 64
STATE = {"w": jnp.ones((WIDTH, WIDTH)), "v": jnp.ones((WIDTH, WIDTH))}
BATCH = {"x": jnp.ones((4, WIDTH)), "mask": jnp.ones(4, bool)}
STATE_BYTES, EXAMPLE_BYTES = 2 * WIDTH * WIDTH * 4, WIDTH * 4 + 1


def step(state, batch):
    def loss(state):
        hidden = jnp.tanh(batch["x"] @ state["w"])
        return jnp.where(batch["mask"], (hidden @ state["v"]).sum(-1), 0.0).sum()

    value, grads = jax.value_and_grad(loss)(state)
    return jax.tree.map(lambda p, g: p - 0.1 * g, state, grads), value


def test_arguments_and_outputs_are_those_counted_by_hand():
    found = step_memory(step, STATE, BATCH)
    assert found.batch == 4
    assert found.arguments == STATE_BYTES + 4 * EXAMPLE_BYTES
    assert STATE_BYTES <= found.outputs <= STATE_BYTES + 64
    assert found.aliased == STATE_BYTES
    assert found.total == found.temporaries + found.arguments + found.outputs - found.aliased


def test_without_donation_more_is_held():
    donated, kept = (step_memory(step, STATE, BATCH, donate=donate) for donate in (True, False))
    assert kept.aliased == 0
    assert kept.total > donated.total


def test_nothing_is_run():
    def loud(state, batch):
        jax.debug.callback(lambda: pytest.fail("ran"))
        return step(state, batch)

    shapes = jax.eval_shape(lambda: STATE)
    assert step_memory(loud, shapes, resized(BATCH, 1 << 20)).arguments == STATE_BYTES + (EXAMPLE_BYTES << 20)


def test_the_line_meets_the_compiler_far_outside_of_its_probes():
    model = predict_memory(step, STATE, BATCH, sizes=(64, 128, 256))
    compiled = step_memory(step, STATE, resized(BATCH, 2048)).total
    assert model.bytes_at(2048) == pytest.approx(compiled, rel=0.02)
    assert model.deviation < 0.05
    assert model.per_example >= EXAMPLE_BYTES + WIDTH * 4


def test_typed_keys_in_the_state():
    state = {**STATE, "key": jax.random.key(0)}

    def keyed(state, batch):
        key = jax.random.fold_in(state["key"], 1)
        new, value = step({"w": state["w"], "v": state["v"]}, batch)
        return {**new, "key": key}, value

    assert step_memory(keyed, state, BATCH).arguments == STATE_BYTES + 8 + 4 * EXAMPLE_BYTES


@pytest.mark.parametrize("multiple_of", [1, 8, 24])
def test_the_largest_batch_fits_and_the_next_does_not(multiple_of):
    limit = 400_000
    found = largest_batch(step, STATE, BATCH, limit, multiple_of=multiple_of)
    assert found.size % multiple_of == 0
    assert found.memory.total <= limit
    assert step_memory(step, STATE, resized(BATCH, found.size)).total <= limit
    assert step_memory(step, STATE, resized(BATCH, found.size + multiple_of)).total > limit


def test_nothing_fits():
    found = largest_batch(step, STATE, BATCH, STATE_BYTES // 2)
    assert found.size == 0
    assert found.memory.total > STATE_BYTES // 2


def made_up(monkeypatch, bytes_at):
    """Lets the compiler find these bytes, and tells at which sizes it was asked."""
    asked = []

    def found(step, state, batch, *, donate=True):
        size = batch["x"].shape[0]
        asked.append(size)
        return memory.StepMemory(batch=size, arguments=0, outputs=0, aliased=0, temporaries=int(bytes_at(size)))

    monkeypatch.setattr(memory, "step_memory", found)
    return asked


@pytest.mark.parametrize("multiple_of", [1, 8, 24])
@pytest.mark.parametrize(
    "bytes_at",
    [
        lambda size: 1000 + 10 * size,
        lambda size: max(30_000 - 5 * size, 10 * size),  # falls at first, as casts of parameters share with activations
        lambda size: max(30_000, 10 * size),
        lambda size: max(2 * size, 100 * size - 50_000),
        lambda size: 100 * size + 64 * (size % 7),
    ],
)
def test_the_search_finds_where_the_limit_is_crossed(monkeypatch, bytes_at, multiple_of):
    asked, limit = made_up(monkeypatch, bytes_at), 50_000
    found = largest_batch(step, STATE, BATCH, limit, multiple_of=multiple_of)
    right = max(size for size in range(multiple_of, 30_000, multiple_of) if bytes_at(size) <= limit)
    # Where memory jitters with the size, a slightly smaller answer is right too: what it says fits.
    assert right - 8 <= found.size <= right
    assert found.size % multiple_of == 0
    assert bytes_at(found.size) <= limit
    assert len(asked) <= 13


def test_a_step_that_never_grows_is_said_to(monkeypatch):
    made_up(monkeypatch, lambda size: 1000)
    with pytest.raises(ValueError, match="does not grow"):
        largest_batch(step, STATE, BATCH, 50_000)


def test_wrong_sizes_are_refused():
    for sizes in ((8,), (8, 8), (0, 8)):
        with pytest.raises(ValueError, match="batch sizes"):
            predict_memory(step, STATE, BATCH, sizes=sizes)
    with pytest.raises(ValueError, match="first axis"):
        resized({"a": np.ones(2), "b": np.ones(3)}, 4)


def test_memory_that_does_not_grow_has_no_largest_batch():
    model = memory.MemoryModel(fixed=10.0, per_example=0.0, deviation=0.0, probes=())
    with pytest.raises(ValueError, match="does not grow"):
        model.batch_within(100)


def test_the_cpu_does_not_say_its_limit():
    assert memory.device_limit(jax.devices("cpu")[0]) is None
