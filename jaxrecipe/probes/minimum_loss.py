"""The lowest loss there is: the user's own loss when each example may have whatever output suits it best."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxrecipe.probes.constant_predictor import wants_probabilities
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Values


def lowest_losses(setup: Setup, outputs: Any, targets: Any, *, steps: int = 200) -> np.ndarray:
    """Minimise each example's loss over free outputs; `[batch]` float64.

    Starts from the best outputs that the declared target suggests (the target itself for values, a large logit at the label for
    classes) and from the given outputs, refines by Adam and takes the lower. Zero for a plain cross entropy or squared error, the
    entropy of the smoothed labels for label smoothing. Losses that mix examples are minimised together. A loss on probabilities is
    only evaluated at the right answers, since beyond the simplex it has no floor.
    """
    perfect = _perfect(setup, outputs, targets)
    if wants_probabilities(setup, outputs, targets):
        return np.asarray(setup.losses(perfect[-1], targets), np.float64)
    found = [np.asarray(setup.losses(start, targets), np.float64) for start in perfect]
    found += [np.asarray(_refine(setup, start, targets, steps), np.float64) for start in (outputs, *perfect)]
    return np.nanmin(np.stack(found), axis=0)


def frequencies_given_input(setup: Setup, outputs: Any, inputs: Any, targets: Any) -> np.ndarray | None:
    """How often each label stands at the same input among these examples: what no model can improve upon.

    For tokens "the same input" is the same row up to the position, because that is all that a causal model sees; elsewhere it is the
    same example. Shape of the outputs; None where targets are not integer labels of one output array.
    """
    target = setup.task.target
    if not isinstance(target, (Classes, Tokens)) or not isinstance(outputs, jax.Array):
        return None
    labels, rows = np.asarray(targets), [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]
    if labels.shape != outputs.shape[:-1] or not np.issubdtype(labels.dtype, np.integer):
        return None
    by_position = isinstance(target, Tokens) and labels.ndim == 2 and all(row.shape[:2] == labels.shape for row in rows)
    keys = {
        index: (
            index[1:],
            *(row[index[0], : index[1] + 1].tobytes() if by_position else row[index[0]].tobytes() for row in rows),
        )
        for index in np.ndindex(labels.shape)
    }
    counts: dict[Any, np.ndarray] = {}
    for index, seen in keys.items():
        if 0 <= labels[index] < outputs.shape[-1]:
            counts.setdefault(seen, np.zeros(outputs.shape[-1]))[labels[index]] += 1
    uniform = np.ones(outputs.shape[-1])
    return np.stack([counts.get(keys[index], uniform) for index in np.ndindex(labels.shape)]).reshape(outputs.shape)


def _refine(setup: Setup, start: Any, targets: Any, steps: int) -> Float[Array, "batch"]:
    """Lowest loss of each example along an Adam run on the outputs themselves."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.3, steps))

    def total(outputs: Any) -> tuple[Float[Array, ""], Float[Array, "batch"]]:
        losses = setup.losses(outputs, targets)
        return losses.sum(), losses

    @jax.jit
    def run(outputs: Any) -> Float[Array, "batch"]:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            outputs, state, best = carry
            gradient, losses = jax.grad(total, has_aux=True)(outputs)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
                updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(outputs, updates), state, jnp.fmin(best, losses)), None

        first = jnp.full(jax.tree.leaves(outputs)[0].shape[0], jnp.inf, jnp.float32)
        return jax.lax.scan(step, (outputs, optimizer.init(outputs), first), length=steps)[0][2]

    return run(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), start))


def _perfect(setup: Setup, outputs: Any, targets: Any) -> list[Any]:
    """Outputs that the declared target calls right, in one or two strengths; none where that is not clear."""
    target = setup.task.target
    if not isinstance(outputs, jax.Array) or not hasattr(targets, "shape"):
        return []
    if (
        isinstance(target, (Classes, Tokens))
        and outputs.shape[:-1] == targets.shape
        and jnp.issubdtype(targets.dtype, jnp.integer)
    ):
        one_hot = jax.nn.one_hot(targets, outputs.shape[-1], dtype=jnp.float32)
        return [30.0 * one_hot, one_hot]
    if targets.size == outputs.size and isinstance(target, (Values, Binary, MultiLabel)):
        values = jnp.asarray(targets).reshape(outputs.shape).astype(jnp.float32)
        return [values] if isinstance(target, Values) else [60.0 * values - 30.0, values]
    return []
