"""The step draws new random numbers every time."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.step_pass import Given, Leaves, equal, host_leaves, reported_loss, result_of, same, with_leaves
from jaxrecipe.probes.traced_step import constant_draws, equations, traced_step
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup

FEWEST_KEYS = 3
"""Keys that a step was seen to be called with before it is said that they are all the same."""
KEY_NAMES = ("key", "rng", "prng", "seed")
"""Parts of the names of raw keys in a state."""
RAW_KEY = (2, 4)
"""Numbers in a raw key: of threefry, of rbg."""
ROUNDING = 1e-3
"""Share by which a loss may change when the examples of a batch change places: the order of a sum explains less."""


def draws_anew(setup: Setup, *, key: PRNGKeyArray) -> Result:
    """The step draws new random numbers every time, where it draws any.

    What it does: finds out whether the step is random, and by what: the key that it is given, a key in its state, or a
    constant one. Then it looks whether that changes: the keys that the step was seen to be called with, the loss of the
    same batch and parameters after keys and counters of the state have gone one step on, and, for a constant key, the
    shapes that are drawn. JAX's own check for keys that are used twice is run beside it.

    Why it matters: a key that is used again at every step turns dropout, noise and augmentation into fixed
    transformations: nothing is drawn, and no error says so.

    What to do: split or fold the key by the step (`jax.random.fold_in(key, step)`) and give each step its own.

    Args:
        setup: the set-up.
        key: seeds the steps.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "fix random seed".
    """
    given = Given(setup.fresh_state(), setup.batch, key)
    plain = result_of(setup, given)
    by_key = not equal(plain, result_of(setup, Given(given.state, given.batch, jax.random.fold_in(key, 1))))
    findings = []
    if by_key:
        findings += _same_keys(setup, given)
    else:
        findings += _key_in_state(setup, given) or _constant_key(setup, given)
    if not findings:
        findings += _used_twice(setup, given)
    what = "follows its key" if by_key else "does not depend on a key that it is given"
    return Result(
        summary=f"The step {what}; no draw was seen to repeat.",
        findings=tuple(findings),
        evidence=(Table(title="Randomness", columns=("source", "the step depends on it"), rows=[("key", by_key)]),),
    )


def _same_keys(setup: Setup, given: Given) -> Iterator[Finding]:
    """Keys that the step was seen to be called with, all the same, where it does not make others of them itself."""
    keys = setup.loop.facts.keys if setup.loop.facts is not None else ()
    numbers = {b"".join(array.tobytes() for array in host_leaves(one).values()) for one in keys}
    if len(keys) < FEWEST_KEYS or len(numbers) > 1:
        return
    text = f"The step is random and was given the same key in all of the {len(keys)} calls that were seen"
    counted = _gone_on(setup, given)
    if all(same(counted[path], array) for path, array in host_leaves(given.state).items() if path in counted):
        yield failure("step/key-reused", f"{text}; its state counts nothing that could make another one of it.")
        return
    start, other = (_loss(setup, given, given.state, key) for key in (given.key, jax.random.fold_in(given.key, 1)))
    again = _loss(setup, given, with_leaves(given.state, counted))
    if not np.isfinite(start) or start == other:
        yield warning("step/key-reused", f"{text}; whether a counter of the state goes into it is undetermined.")
    elif again == start:
        told = f"the loss of one batch is {start:.6g} again after the counters of the state went on, {other:.6g} with"
        yield failure("step/key-reused", f"{text}: {told} another key.")


def _gone_on(setup: Setup, given: Given) -> Leaves:
    """Keys and counters of the state after a step, by path."""
    after, _ = setup.step(trees.copy(given.state), *given.batch, given.key)
    return {path: array for path, array in host_leaves(after).items() if array.dtype.kind in "iu"}


def _key_in_state(setup: Setup, given: Given) -> list[Finding]:
    """A key in the state on which the loss depends, and that gives the same draw again at the next step."""
    first = host_leaves(given.state)
    kept = {path: first[path] for path, leaf in trees.named_leaves(given.state).items() if _is_key(path, leaf)}
    if not kept:
        return []
    other = {path: array ^ np.asarray(1, array.dtype) for path, array in kept.items()}
    if _loss(setup, given, with_leaves(given.state, other)) == (start := _loss(setup, given, given.state)):
        return []
    went_on = with_leaves(given.state, _gone_on(setup, given))
    again = _loss(setup, given, went_on, jax.random.fold_in(given.key, 1))
    if not np.isfinite(start) or again != start:
        return []
    where = ", ".join(kept)
    text = f"The loss depends on {where}, and keys and counters after a step give the same draw again ({start:.6g})."
    return [failure("step/key-reused", text)]


def _is_key(path: str, leaf: Any) -> bool:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return True
    named = any(word in path.lower() for word in KEY_NAMES)
    return named and getattr(leaf, "dtype", None) == np.uint32 and np.shape(leaf)[-1:] in {(n,) for n in RAW_KEY}


def _loss(setup: Setup, given: Given, state: Any, key: PRNGKeyArray | None = None) -> float:
    _, metrics = setup.step(trees.copy(state), *given.batch, given.key if key is None else key)
    return reported_loss(metrics)


def _constant_key(setup: Setup, given: Given) -> list[Finding]:
    """Draws with one number or more an example that follow from a constant key, so that the place decides."""
    traced = traced_step(setup, given.key)
    facts = setup.loop.facts
    if traced.jaxpr is None or setup.batch_size < 2 or (facts is not None and facts.whole_batches):
        return []
    shapes = [shape for shape in constant_draws(traced.jaxpr) if shape[:1] == (setup.batch_size,)]
    if not shapes:
        return []
    turned = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), given.batch)
    plain = _loss(setup, given, given.state)
    other = _loss(setup, Given(given.state, turned, given.key), given.state)
    if not abs(other - plain) > ROUNDING * abs(plain):
        return []
    text = (
        f"The step draws {list(shapes[0])} random numbers from a constant key, the same at every step: the loss of one "
        f"batch is {plain:.6g}, and {other:.6g} when its examples change places."
    )
    return [failure("step/key-reused", text)]


def _used_twice(setup: Setup, given: Given) -> Iterator[Finding]:
    """What JAX's own check for keys that are used twice says; it is known to be wrong now and then."""
    traced = traced_step(setup, given.key)
    if traced.jaxpr is None or not any(one.primitive.name == "random_bits" for one in equations(traced.jaxpr.jaxpr)):
        return
    try:
        with jax.debug_key_reuse(True):
            jax.make_jaxpr(setup.loop.step)(given.state, *given.batch, given.key)
    except Exception as error:
        if "reus" in f"{type(error).__name__}{error}".lower():
            yield warning("step/key-used-twice", f"JAX says of the step: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
