"""The constant predictor: the output that does not look at the input and costs least in the user's own loss.

No table of losses is needed: log n for balanced classes, the variance for the squared error, the right number for any
other loss. The best constant is also the final bias that a good initialization asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrecipe.probes.output_domain import into_domain, probability_heads
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, each_head, heads

UNBOUNDED = 1e3
"""A constant that gets this many times below the loss of a plain zero output means that the loss has no floor."""
FAR = 1e4
"""An output so far out that a loss without a floor shows it."""
MOST_ITERATIONS = 100
"""Of L-BFGS from each start: the suggested starts are within a few of the minimum for every common loss."""


@dataclass(frozen=True)
class ConstantFit:
    """The constant predictor.

    Attributes:
        output: what it always says, a tree like the model's outputs with a batch axis of one.
        losses: the loss of each example at it, `[batch]` float64.
        unbounded: whether the loss can be driven down without end.
    """

    output: Any
    losses: np.ndarray
    unbounded: bool

    @property
    def loss(self) -> float:
        """Its mean loss."""
        return float(self.losses.mean())

    @property
    def scale(self) -> float:
        """What differences of losses are measured by: its mean loss, or their spread if that is larger."""
        return max(abs(self.loss), float(np.abs(self.losses - self.loss).mean()), 1e-12)

    @property
    def exists(self) -> bool:
        """Whether there is such a predictor: its loss is finite, and has a floor."""
        return not self.unbounded and bool(np.isfinite(self.loss))


def constant_at_init(setup: Setup, *, shared: bool = True) -> ConstantFit:
    """The constant predictor of the examples on which the untrained model is measured; computed once for all checks."""
    start = setup.at_init
    return setup.memo(
        (constant_at_init, shared), lambda: best_constant(setup, start.outputs, start.targets, shared=shared)
    )


def best_constant(setup: Setup, outputs: Any, targets: Any, *, shared: bool = True) -> ConstantFit:
    """Minimize the mean loss over one constant output (L-BFGS from several starts, on the host in float64).

    Args:
        setup: gives the loss and the declared target.
        outputs: the model's outputs on the examples, for their shapes and their domain; a head that ends in a softmax
            is fitted on the simplex.
        targets: the targets of the same examples.
        shared: one vector for every position (what a final bias can do) or, if False, one for each position.
    """
    from scipy.optimize import minimize

    probabilities = probability_heads(setup, outputs, targets)
    starts = _starts(setup, outputs, targets, probabilities, shared=shared)
    template = starts[0]
    value_and_gradient = setup.memo(_objective, lambda: _objective(setup))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(_unflatten(flat, template), outputs, targets, probabilities=probabilities)
        return float(value), _flatten(gradient)

    fits: list[tuple[float, np.ndarray]] = []
    for start in map(_flatten, starts):
        with np.errstate(all="ignore"):
            fit = minimize(
                objective, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS, "ftol": 1e-8}
            )
        fits += [
            (value, x) for value, x in ((float(fit.fun), fit.x), (objective(start)[0], start)) if np.isfinite(value)
        ]
    if not fits:
        nan = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), template)
        return ConstantFit(output=nan, losses=np.full(1, np.nan), unbounded=False)
    value, flat = min(fits, key=lambda fit: fit[0])
    output = into_domain(setup, probabilities)(_unflatten(flat, template))
    # Only asked for the floor: so far out, rounding alone can make equal scores unequal and a loss of log n look like
    # zero.
    lowest = np.nanmin([value, *(objective(np.full_like(flat, far))[0] for far in (-FAR, FAR))])
    unbounded = without_floor(float(lowest), objective(_flatten(template))[0])
    return ConstantFit(output=output, losses=losses_at_constant(setup, output, outputs, targets), unbounded=unbounded)


def without_floor(lowest: float, reference: float) -> bool:
    """Whether a loss as low as this, where a plain output costs `reference`, means that there is no lowest one."""
    return bool(lowest < -UNBOUNDED * (1.0 + (abs(reference) if np.isfinite(reference) else 0.0)))


def losses_at_constant(setup: Setup, constant: Any, outputs: Any, targets: Any) -> np.ndarray:
    """Loss of each example at a constant output with a batch axis of one; `[batch]` float64."""
    return np.asarray(setup.losses(_broadcast(constant, outputs), targets), np.float64)


def mean_output(outputs: Any) -> Any:
    """The constant part of the outputs: their mean over all axes but the last, with the axes kept."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32).mean(axis=_shared_axes(leaf), keepdims=True), outputs)


def uninformed_loss(setup: Setup, fit: ConstantFit, outputs: Any, targets: Any) -> float:
    """What a model may score that knows nothing yet: the constant predictor's loss or, where it is higher, that of
    equal logits at every head with labels and of the constant predictor at the others.
    """
    probabilities = probability_heads(setup, outputs, targets)

    def equal(head: Head) -> Array:
        if not head.behavior.labeled:
            return head.outputs
        return head.behavior.uninformed(head.target, head.outputs, head.path in probabilities)

    constant = each_head(equal, setup.task.target, fit.output)
    if constant is None:
        return fit.loss
    loss = float(losses_at_constant(setup, constant, outputs, targets).mean())
    return max(fit.loss, loss) if np.isfinite(loss) else fit.loss


def _objective(setup: Setup) -> Callable[..., tuple[Float[Array, ""], Any]]:
    """Mean loss of a constant and its gradient, compiled once for all constants, batches and checks of one shape."""

    @partial(jax.jit, static_argnames="probabilities")
    def value_and_gradient(constant: Any, outputs: Any, targets: Any, *, probabilities: frozenset[str]) -> Any:
        def mean_loss(constant: Any) -> Float[Array, ""]:
            answer = _broadcast(into_domain(setup, probabilities)(constant), outputs)
            return setup.losses(answer, targets).astype(jnp.float32).mean()

        return jax.value_and_grad(mean_loss)(constant)

    return value_and_gradient


def _starts(setup: Setup, outputs: Any, targets: Any, probabilities: frozenset[str], *, shared: bool) -> list[Any]:
    """Where the minimization begins: zero, one, the mean of the outputs, and what the declared targets suggest."""

    def constant_like(leaf: Array) -> Array:
        shape = tuple(1 if axis in _shared_axes(leaf) else n for axis, n in enumerate(leaf.shape))
        return jnp.zeros(shape if shared else (1, *leaf.shape[1:]), jnp.float32)

    zero = jax.tree.map(constant_like, outputs)
    starts = [zero, jax.tree.map(jnp.ones_like, zero)]
    if not probabilities:
        starts.append(jax.tree.map(lambda z, m: jnp.broadcast_to(m, z.shape), zero, mean_output(outputs)))
    return [*starts, *_suggested(setup, zero, targets)]


def _suggested(setup: Setup, zero: Any, targets: Any) -> list[Any]:
    """What the declared heads suggest, the first of each together, then the second of each."""
    by_head = {
        head.path: head.behavior.constants(head.target, head.outputs, head.targets)
        for head in heads(setup.task.target, zero, targets)
        if isinstance(head.outputs, jax.Array) and isinstance(head.targets, jax.Array | np.ndarray)
    }

    def nth(head: Head, number: int) -> Array:
        found = by_head.get(head.path)
        return found[min(number, len(found) - 1)] if found else head.outputs

    count = max(map(len, by_head.values()), default=0)
    found = [each_head(partial(nth, number=number), setup.task.target, zero) for number in range(count)]
    return [start for start in found if start is not None]


def _shared_axes(leaf: Array) -> tuple[int, ...]:
    """All axes but the last; all of them for outputs that are one number an example."""
    return tuple(range(max(leaf.ndim - 1, 1)))


def _broadcast(constant: Any, outputs: Any) -> Any:
    return jax.tree.map(lambda c, out: jnp.broadcast_to(c, out.shape).astype(out.dtype), constant, outputs)


def _flatten(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def _unflatten(flat: np.ndarray, template: Any) -> Any:
    leaves, structure = jax.tree.flatten(template)
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(
        structure, [jnp.asarray(p.reshape(leaf.shape), jnp.float32) for p, leaf in zip(parts, leaves, strict=True)]
    )
