"""Fix the random seed: the same code run twice gives the same numbers, bit for bit."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, make_setup

_result = partial(unsorted_result, name="fix_random_seed", stage="skeleton")


def fix_random_seed(setup: Setup, *, key: PRNGKeyArray, steps: int = 3) -> Result:
    """The same seed gives the same run, and each step draws anew.

    What it does: starts the set-up twice from the same seed (data order, augmentation, initial parameters, then a few
    steps of your own training step) and compares everything bit by bit. Then it repeats one step with the step counters
    and keys of the next one, to see that dropout does not draw the same mask every time.

    Why it matters: with a run that cannot be repeated no two experiments can be compared, and half of all surprises are noise.
    A key that is used again at every step silently turns dropout and augmentation into fixed transformations.

    What to do: seed numpy and Python where they are used, split or fold the key by the step (`jax.random.fold_in(key, step)`), read data in
    an order that follows from the seed.

    Args:
        setup: the set-up.
        key: seeds the run.
        steps: training steps compared.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "fix random seed".
    """
    first, second = (_run(setup, key, steps) for _ in range(2))
    table = [(part, _difference(first[part], second[part])) for part in first]
    differing = [part for part, difference in table if difference]
    evidence = (
        Table(
            title="Two runs from the same seed",
            columns=("part", "difference"),
            rows=[(p, d or "none") for p, d in table],
        ),
    )
    measured = {"parts that differ": len(differing), "steps compared": steps}
    expected = {"parts that differ": 0}
    if differing:
        return _result(
            status=Status.FAIL,
            finding=f"Two runs from the same seed differ, first in the {differing[0]}.",
            hint=HINTS[differing[0]],
            measured=measured,
            expected=expected,
            evidence=evidence,
        )
    if _augment_ignores_key(setup, key):
        return _result(
            status=Status.FAIL,
            finding="augment changes the batch, but in the same way whatever key it is given.",
            hint="Draw from the key that augment is given, and from nothing else: it is a different one at every step. A constant key "
            "inside (the same key every step) turns augmentation into a fixed transformation.",
            measured=measured,
            expected=expected,
            evidence=evidence,
        )
    if _same_draw_every_step(setup, key):
        return _result(
            status=Status.FAIL,
            finding="The model is random in training, but the training step draws the same random numbers at every step.",
            hint="Fold the step into the key inside the step (jax.random.fold_in(key, state.step)), or split a new key for each step.",
            measured=measured,
            expected=expected,
            evidence=evidence,
        )
    return _result(
        status=Status.PASS,
        finding=f"Two runs of {steps} steps from the same seed are equal bit for bit.",
        measured=measured,
        expected=expected,
        evidence=evidence,
    )


HINTS = {
    "data": "The data source does not return the same example for the same index, or prepare or augment uses randomness of its own: "
    "draw only from the key that augment is given.",
    "initial state": "The parameters do not follow from the key: something in init draws from an unseeded generator.",
    "state after training": "The training step draws from something other than the state and its key (numpy's or Python's generator, a "
    "global, the clock), or runs an operation that is not deterministic on this device.",
    "metrics": "The parameters agree but the metrics do not: the metrics draw from something other than the state and its key.",
}


def _run(setup: Setup, key: PRNGKeyArray, steps: int) -> dict[str, Any]:
    """A whole short run from nothing but the task and the seed; leaves are host arrays."""
    again = make_setup(setup.task, seed=setup.seed)  # reads the data anew; the compiled step is shared below
    batches = [again.training_batch(step) for step in range(steps)]
    state = again.loop.init(key)
    initial, metrics = _host(state), []
    for step, (inputs, targets) in enumerate(batches):
        state, measured = setup.step(trees.copy(state), inputs, targets, jax.random.fold_in(key, step))
        metrics.append(measured)
    return {
        "data": _host(batches),
        "initial state": initial,
        "state after training": _host(state),
        "metrics": _host(metrics),
    }


def _host(tree: Any) -> dict[str, np.ndarray]:
    """Host copies of every leaf by path; typed keys as the numbers they hold."""

    def to_numpy(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.array(leaf)

    return {path: to_numpy(leaf) for path, leaf in trees.named_leaves(tree).items()}


def _difference(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> str:
    """Where and how much two trees differ, in words; empty if they are equal bit for bit (NaN equals NaN)."""
    if left.keys() != right.keys():
        return f"the structure: {sorted(set(left) ^ set(right))[:3]}"
    for path, x in left.items():
        y = right[path]
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"{path}: {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}"
        if x.tobytes() != y.tobytes():
            return f"{path}: {int((x != y).sum())} of {x.size} numbers"
    return ""


def _augment_ignores_key(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether augment does something to a batch that does not depend on its key."""
    augment = setup.task.augment
    if augment is None:
        return False
    plain = _host(setup.batch)
    drawn = [_host(augment(jax.random.fold_in(key, draw), *setup.batch)) for draw in range(3)]
    return bool(_difference(plain, drawn[0])) and not any(_difference(drawn[0], other) for other in drawn[1:])


def _same_draw_every_step(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether a model that is random in training gets the same randomness at the next step.

    The second step is given the first one's parameters, so that only its key and counters differ from the first: if its loss
    is the same to the bit, the draw was the same.
    """
    if not setup.owns_loop or not _random_in_training(setup, key):
        return False
    inputs, targets = setup.batch
    state = setup.fresh_state()
    moved, first = setup.step(trees.copy(state), inputs, targets, jax.random.fold_in(key, 0))
    second_state = jax.tree.map(lambda old, new: new if _counts_or_draws(old) else old, state, moved)
    _, second = setup.step(trees.copy(second_state), inputs, targets, jax.random.fold_in(key, 1))
    return "loss" in first and np.asarray(first["loss"]).tobytes() == np.asarray(second["loss"]).tobytes()


def _random_in_training(setup: Setup, key: PRNGKeyArray) -> bool:
    inputs, _ = setup.batch
    outputs = [
        setup.forward(setup.params, setup.model_state, inputs, train=True, key=jax.random.fold_in(key, draw))[0]
        for draw in range(2)
    ]
    return bool(_difference(_host(outputs[0]), _host(outputs[1])))


def _counts_or_draws(leaf: Any) -> bool:
    """Whether a leaf of a state is a counter or a key, not something that training moves by gradients."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return not jnp.issubdtype(dtype, np.inexact)
