"""The lowest loss there is: the user's own loss when each example may have whatever output suits it best."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxrecipe.checks.constant_output import wants_probabilities
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
    found = [np.asarray(setup.losses(start, targets), np.float64) for start in perfect]
    if not wants_probabilities(setup, outputs, targets):
        found += [np.asarray(_refine(setup, start, targets, steps), np.float64) for start in [outputs, *perfect]]
    return np.nanmin(np.stack(found), axis=0)


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
