"""The minimum achievable loss: the user's own loss when each example may have whatever output suits it best."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxrecipe.probes.output_domain import probability_heads
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, accuracies, certain_outputs, each_head, heads

NO_LOG_OF_ZERO = 1e-13
"""Frequencies below this count as this, so that their logarithm is finite and their softmax zero in float32."""


class Minimum(NamedTuple):
    """What is the best that any model could do on these examples.

    Attributes:
        loss: the lowest mean loss.
        accuracy: the largest share of right predictions of each head with labels, by path.
    """

    loss: float
    accuracy: dict[str, float]


def minimum_achievable(setup: Setup, outputs: Any, inputs: Any, targets: Any) -> Minimum:
    """The lowest loss and the largest accuracy that a model could reach that sees the inputs.

    Equal inputs with different labels (the first tokens of several rows, conflicting duplicates) cannot all be
    predicted.
    """
    lowest = float(minimum_losses(setup, outputs, targets).mean())
    counts = label_frequencies(setup, outputs, inputs, targets)
    accuracy = {head.path: 1.0 for head in heads(setup.task.target) if head.behavior.labeled}
    if not counts:
        return Minimum(lowest, accuracy)

    def informed(head: Head) -> Array:
        if head.path not in counts:
            return head.outputs
        shares = counts[head.path] / counts[head.path].sum(axis=-1, keepdims=True)
        return jnp.asarray(np.log(np.maximum(shares, NO_LOG_OF_ZERO)), jnp.float32)

    certain = certain_outputs(setup.task.target, outputs, targets)
    answer = each_head(informed, setup.task.target, outputs if certain is None else certain)
    accuracy |= {
        path: share for path, share in accuracies(setup.task.target, answer, targets).items() if path in counts
    }
    undecided = any((count > 0).sum(axis=-1).max() > 1 for count in counts.values())
    if certain is None or not undecided or probability_heads(setup, outputs, targets):
        return Minimum(lowest, accuracy)
    return Minimum(max(lowest, float(setup.losses(answer, targets).mean())), accuracy)


def minimum_losses(setup: Setup, outputs: Any, targets: Any, *, steps: int = 200) -> np.ndarray:
    """Minimize each example's loss over free outputs; `[batch]` float64.

    Starts from the outputs that the declared targets call right (the target itself for values, a large logit at the
    label for classes) and from the given outputs, refines by Adam and takes the lower. Zero for a plain cross entropy
    or squared error, the entropy of the smoothed labels for label smoothing. Losses that mix examples are minimized
    together. A loss on probabilities is only evaluated at the right answers, since beyond the simplex it has no floor.
    """
    probabilities = probability_heads(setup, outputs, targets)
    certain = certain_outputs(setup.task.target, outputs, targets, probabilities=probabilities)
    if probabilities:
        return np.asarray(setup.losses(certain, targets), np.float64)
    labeled = frozenset(head.path for head in heads(setup.task.target) if head.behavior.labeled)
    gentle = certain_outputs(setup.task.target, outputs, targets, probabilities=labeled) if labeled else None
    right = [answer for answer in (certain, gentle) if answer is not None]
    found = [np.asarray(setup.losses(start, targets), np.float64) for start in right]
    refine = setup.memo((_refine, steps), lambda: _refine(setup, steps))
    starts = [jax.tree.map(lambda leaf: leaf.astype(jnp.float32), start) for start in (outputs, *right)]
    found += [np.asarray(refine(start, targets), np.float64) for start in starts]
    return np.nanmin(np.stack(found), axis=0)


def label_frequencies(setup: Setup, outputs: Any, inputs: Any, targets: Any) -> dict[str, np.ndarray]:
    """How often each class stands at the same input among these examples, which no model can improve upon: by path, of
    each head with exclusive classes, in the shape of its outputs.

    For rows of tokens "the same input" is the same row up to the position, because that is all that a causal model
    sees; elsewhere it is the same example.
    """
    rows = [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]
    found = {}
    for head in heads(setup.task.target, outputs, targets):
        if head.behavior.form != "exclusive" or not isinstance(head.outputs, jax.Array) or head.targets is None:
            continue
        labels = head.behavior.labels(head.target, head.targets)
        if labels is not None and labels.shape == head.outputs.shape[:-1]:
            given = np.asarray(head.targets)  # padding too, which a loss may count
            found[head.path] = _frequencies(given, rows, head.outputs.shape[-1], prefixes=_by_prefix(head, rows))
    return found


def _by_prefix(head: Head, rows: list[np.ndarray]) -> bool:
    """Whether a label belongs to the row up to its position: rows of tokens beside inputs as long."""
    shape = np.shape(head.targets)
    return head.behavior.by_position and len(shape) == 2 and all(row.shape[:2] == shape for row in rows)


def _frequencies(labels: np.ndarray, rows: list[np.ndarray], classes: int, *, prefixes: bool) -> np.ndarray:
    """`[*labels, classes]`; uniform where the label is none of the classes."""
    keys = {
        index: (
            index[1:],
            *(row[index[0], : index[1] + 1].tobytes() if prefixes else row[index[0]].tobytes() for row in rows),
        )
        for index in np.ndindex(labels.shape)
    }
    counts: dict[Any, np.ndarray] = {}
    for index, seen in keys.items():
        if 0 <= labels[index] < classes:
            counts.setdefault(seen, np.zeros(classes))[labels[index]] += 1
    uniform = np.ones(classes)
    return np.stack([counts.get(keys[index], uniform) for index in np.ndindex(labels.shape)]).reshape(
        *labels.shape, classes
    )


def _refine(setup: Setup, steps: int) -> Any:
    """`run(outputs, targets)`: the lowest loss of each example along an Adam run on the outputs."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.3, steps))

    def total(outputs: Any, targets: Any) -> tuple[Float[Array, ""], Float[Array, "batch"]]:
        losses = setup.losses(outputs, targets)
        return losses.sum(), losses

    @jax.jit
    def run(outputs: Any, targets: Any) -> Float[Array, "batch"]:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            outputs, state, best = carry
            gradient, losses = jax.grad(total, has_aux=True)(outputs, targets)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
                updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(outputs, updates), state, jnp.fmin(best, losses)), None

        first = jnp.full(jax.tree.leaves(outputs)[0].shape[0], jnp.inf, jnp.float32)
        return jax.lax.scan(step, (outputs, optimizer.init(outputs), first), length=steps)[0][2]

    return run
