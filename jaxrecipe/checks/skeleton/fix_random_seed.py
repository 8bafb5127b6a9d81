"""Fix the random seed: the same code run twice gives the same numbers, bit for bit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup, make_setup

Leaves = dict[str, np.ndarray]
"""Leaves of a tree on the host, by path."""
PARTS = {
    "data": ("step/data-not-reproducible", "Prepare, augment or the data source draws from something else."),
    "initial state": ("step/initialization-not-reproducible", ""),
    "state after training": ("step/not-reproducible", "The step draws, or an operation is not deterministic here."),
    "metrics": ("step/not-reproducible", "The parameters agree and the metrics do not."),
}
"""What is compared, in the order in which a difference spreads, with its code and what points to the cause."""
DRAWS = 3
"""Keys that augment is given; draws that are all the same do not follow from the key."""


def fix_random_seed(setup: Setup, *, key: PRNGKeyArray, steps: int = 3) -> Result:
    """The same seed gives the same run, and each step draws anew.

    What it does: starts the set-up twice from the same seed (data order, augmentation, initial parameters, then a few
    steps of the loop's own training step) and compares everything bit by bit. Then it repeats one step with the step
    counters and keys of the next one, to see that dropout does not draw the same mask every time.

    Why it matters: with a run that cannot be repeated no two experiments can be compared, and half of all surprises are
    noise. A key that is used again at every step silently turns dropout and augmentation into fixed transformations.

    What to do: seed numpy and Python where they are used, split or fold the key by the step (`jax.random.fold_in(key,
    step)`), read data in an order that follows from the seed.

    Args:
        setup: the set-up.
        key: seeds the run.
        steps: training steps compared.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "fix random seed".
    """
    again = make_setup(setup.task, seed=setup.seed)  # traces init anew, so that what it draws while it is traced shows
    first, second = (_run(setup, one, key, steps) for one in (setup, again))
    differences = {part: _difference(first[part], second[part]) for part in PARTS}
    differing = [part for part, difference in differences.items() if difference]
    count = Measure(name="parts that differ", value=len(differing), low=0, high=0, unit="parts")
    findings = [_not_reproducible(differing[0], differences, count)] if differing else []
    if "data" not in differing and _augment_ignores_key(setup, key):
        text = "augment changes the batch, but in the same way whatever key it is given."
        findings.append(failure("step/augmentation-key-reused", text))
    whole = setup.task.has_costs
    if whole and not differing and _same_draw_every_step(setup, key):
        text = "The model is random in training, but the training step draws the same random numbers at every step."
        findings.append(failure("step/key-reused", text))
    return Result(
        summary=f"Two runs of {steps} steps from the same seed are equal bit for bit.",
        findings=tuple(findings),
        measures=(count, Measure(name="steps compared", value=steps, unit="steps")),
        evidence=(
            Table(
                title="Two runs from the same seed",
                columns=("part", "difference"),
                rows=[(part, difference or "none") for part, difference in differences.items()],
            ),
        ),
    )


def _not_reproducible(part: str, differences: Mapping[str, str], count: Measure) -> Finding:
    """The first part that differs; those after it only follow."""
    code, here = PARTS[part]
    text = f"Two runs from the same seed differ, first in the {part} ({differences[part]})."
    return failure(code, text, measures=(count,), causes=(cause(code, here),))


def _run(setup: Setup, source: Setup, key: PRNGKeyArray, steps: int) -> dict[str, Leaves]:
    """A whole short run, on the host. Data and initial state come from `source`, the compiled step is shared."""
    batches = [source.training_batch(step) for step in range(steps)]
    state = source.loop.init(key)
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


def _host(tree: Any) -> Leaves:
    """Host copies of every leaf by path; typed keys as the numbers they hold."""

    def to_numpy(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.array(leaf)

    return {path: to_numpy(leaf) for path, leaf in trees.named_leaves(tree).items()}


def _difference(left: Leaves, right: Leaves) -> str:
    """Where and how much two trees differ, in words; empty if they are equal bit for bit (NaN equals NaN)."""
    if left.keys() != right.keys():
        return f"the structure: {sorted(set(left) ^ set(right))[:DRAWS]}"
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
    drawn = [_host(augment(jax.random.fold_in(key, draw), *setup.batch)) for draw in range(DRAWS)]
    return bool(_difference(plain, drawn[0])) and not any(_difference(drawn[0], other) for other in drawn[1:])


def _same_draw_every_step(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether a model that is random in training gets the same randomness at the next step.

    The second step is given the first one's parameters, so that only its key and counters differ from the first: if its
    loss is the same to the bit, although another draw gives another loss, the draw was the same.
    """
    batch, keys = setup.batch, [jax.random.fold_in(key, draw) for draw in range(2)]
    losses = [setup.mean_loss(*setup.variables, *batch, train=True, key=one) for one in keys]
    if not np.isfinite(losses).all() or losses[0] == losses[1]:
        return False
    state = setup.fresh_state()
    moved, first = setup.step(trees.copy(state), *batch, keys[0])
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True)
    leaves = [new if _counts_or_draws(old) else old for old, new in pairs]
    second_state = jax.tree.unflatten(jax.tree.structure(moved), leaves)
    _, second = setup.step(trees.copy(second_state), *batch, keys[1])
    return "loss" in first and np.asarray(first["loss"]).tobytes() == np.asarray(second["loss"]).tobytes()


def _counts_or_draws(leaf: Any) -> bool:
    """Whether a leaf of a state is a counter or a key, not something that training moves by gradients."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return not jnp.issubdtype(dtype, np.inexact)
