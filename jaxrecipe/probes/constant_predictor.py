"""What a model that knows nothing scores: the user's own loss at the best constant output on the user's own targets.

No table of losses is needed: log n for balanced classes, the variance for the squared error, the right number for any
other loss. The best constant is also the final bias that a good initialisation asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Values

UNBOUNDED = 1e3
"""A constant that gets this many times below the loss of a plain zero output means that the loss has no floor."""


@dataclass(frozen=True)
class ConstantFit:
    """The best output that does not look at the input.

    Attributes:
        output: that output, a tree like the model's outputs with a batch axis of one.
        losses: the loss of each example at it, `[batch]` float64.
        unbounded: whether the loss can be driven down without end.
    """

    output: Any
    losses: np.ndarray
    unbounded: bool

    @property
    def loss(self) -> float:
        """Mean loss at the best constant."""
        return float(self.losses.mean())


def best_constant(setup: Setup, outputs: Any, targets: Any, *, shared: bool = True) -> ConstantFit:
    """Minimise the mean loss over one constant output (L-BFGS from several starts, on the host in float64).

    Args:
        setup: gives the loss and the declared target.
        outputs: the model's outputs on the examples, for their shapes and their domain; a model that ends in a
            softmax is fitted on the simplex.
        targets: the targets of the same examples.
        shared: one vector for every position (what a final bias can do) or, if False, one for each position.
    """
    from scipy.optimize import minimize

    to_domain = output_domain(setup, outputs, targets)
    starts = _starts(setup, outputs, targets, to_domain, shared=shared)
    template = starts[0]

    @jax.jit
    def objective(constant: Any) -> tuple[Float[Array, ""], Any]:
        return jax.value_and_grad(
            lambda c: setup.losses(_broadcast(to_domain(c), outputs), targets).astype(jnp.float32).mean()
        )(constant)

    def flat_objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(_unflatten(flat, template))
        return float(value), _flatten(gradient)

    fits = []
    for start in starts:
        with np.errstate(all="ignore"):
            fit = minimize(
                flat_objective, _flatten(start), jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-8}
            )
        fits += [(float(fit.fun), fit.x)] if np.isfinite(fit.fun) else []
        fits += [(value, _flatten(start))] if np.isfinite(value := flat_objective(_flatten(start))[0]) else []
    if not fits:
        nan = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), template)
        return ConstantFit(output=nan, losses=np.full(1, np.nan), unbounded=False)
    value, flat = min(fits, key=lambda fit: fit[0])
    output = to_domain(_unflatten(flat, template))
    losses = np.asarray(setup.losses(_broadcast(output, outputs), targets), np.float64)
    # Only asked for the floor: so far out, rounding alone can make equal scores unequal and a loss of log n look like zero.
    lowest = np.nanmin([value, *(flat_objective(np.full_like(flat, far))[0] for far in (-1e4, 1e4))])
    reference = abs(flat_objective(_flatten(template))[0])
    unbounded = bool(lowest < -UNBOUNDED * (1.0 + (reference if np.isfinite(reference) else 0.0)))
    return ConstantFit(output=output, losses=losses, unbounded=unbounded)


def losses_at_constant(setup: Setup, constant: Any, outputs: Any, targets: Any) -> np.ndarray:
    """Loss of each example at a constant output with a batch axis of one; `[batch]` float64."""
    return np.asarray(setup.losses(_broadcast(constant, outputs), targets), np.float64)


def mean_output(outputs: Any) -> Any:
    """The constant part of the outputs: their mean over all axes but the last, with the axes kept."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32).mean(axis=_shared_axes(leaf), keepdims=True), outputs)


def are_probabilities(outputs: Any) -> bool:
    """Whether every output vector lies on the simplex: not negative and summing to one, over two entries or more."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]
    return all(
        leaf.ndim > 1 and leaf.shape[-1] > 1 and (leaf >= 0).all() and np.allclose(leaf.sum(axis=-1), 1.0, atol=1e-2)
        for leaf in leaves
    )


def wants_probabilities(setup: Setup, outputs: Any, targets: Any) -> bool:
    """Whether the model gives probabilities and the loss is made for them: a certain and right answer scores about zero."""
    if not isinstance(setup.task.target, (Classes, Tokens)) or not are_probabilities(outputs):
        return False
    if not isinstance(outputs, jax.Array) or outputs.shape[:-1] != getattr(targets, "shape", None):
        return False
    certain = jax.nn.one_hot(jnp.asarray(targets), outputs.shape[-1], dtype=jnp.float32)
    return float(setup.losses(certain, targets).mean()) < 0.1


def given_logits(setup: Setup, outputs: Any, targets: Any) -> bool:
    """Whether the loss wants probabilities and the model gives something else.

    Such a loss is nothing at probabilities that are certain and right, and log(n) at equal ones; no loss on logits is both.
    """
    target, shape = setup.task.target, getattr(targets, "shape", None)
    if not isinstance(outputs, jax.Array) or shape is None:
        return False
    if isinstance(target, (Classes, Tokens)) and outputs.shape[:-1] == shape:
        certain = jax.nn.one_hot(jnp.asarray(targets), outputs.shape[-1], dtype=jnp.float32)
        equal, ignorance = 1.0 / outputs.shape[-1], np.log(outputs.shape[-1])
    elif isinstance(target, (Binary, MultiLabel)) and outputs.size == np.prod(shape):
        certain, equal, ignorance = jnp.asarray(targets).reshape(outputs.shape).astype(jnp.float32), 0.5, np.log(2.0)
    else:
        return False
    at_certain, at_equal = (
        float(setup.losses(guess.astype(outputs.dtype), targets).mean())
        for guess in (certain, jnp.full(outputs.shape, equal, jnp.float32))
    )
    values = np.asarray(outputs, np.float64)
    outside = ((values < -1e-3) | (values > 1.0 + 1e-3)).mean() > 0.05
    return bool(outside and at_certain < 0.05 and abs(at_equal - ignorance) < 0.05 * ignorance)


def is_flat(setup: Setup, outputs: Any, targets: Any) -> bool:
    """Whether the loss has no gradient at all with respect to these outputs."""
    floating = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
    slopes = jax.grad(lambda outputs: setup.losses(outputs, targets).sum())(floating)
    return all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(slopes))


def output_domain(setup: Setup, outputs: Any, targets: Any) -> Callable[[Any], Any]:
    """Map free numbers to where the outputs live: the simplex for a loss on probabilities, else anywhere."""
    if wants_probabilities(setup, outputs, targets):
        return lambda constant: jax.tree.map(jax.nn.softmax, constant)
    return lambda constant: constant


def _starts(setup: Setup, outputs: Any, targets: Any, to_domain: Callable[[Any], Any], *, shared: bool) -> list[Any]:
    """Where the minimisation begins: zero, one, the mean of the outputs, and what the declared target suggests."""

    def constant_like(leaf: Array) -> Array:
        shape = tuple(1 if axis in _shared_axes(leaf) else n for axis, n in enumerate(leaf.shape))
        return jnp.zeros(shape if shared else (1, *leaf.shape[1:]), jnp.float32)

    zero = jax.tree.map(constant_like, outputs)
    starts = [zero, jax.tree.map(jnp.ones_like, zero)]
    if to_domain(zero) is zero:
        starts.append(jax.tree.map(lambda z, m: jnp.broadcast_to(m, z.shape), zero, mean_output(outputs)))
    suggested = _suggested(setup, zero, targets)
    return starts if suggested is None else [*starts, *suggested]


def _suggested(setup: Setup, zero: Any, targets: Any) -> list[Any] | None:
    """Starts from the declared target: mean and median of values, log frequencies of classes and tokens, shares and log odds of yes or no."""
    target = setup.task.target
    if isinstance(target, (Classes, Tokens)) and isinstance(zero, jax.Array):
        n = target.n if isinstance(target, Classes) else target.vocabulary
        labels = np.asarray(targets)
        if zero.shape[-1] != n or not np.issubdtype(labels.dtype, np.integer):
            return None
        counts = np.bincount(labels[(labels >= 0) & (labels < n)], minlength=n) + 0.5
        return [jnp.broadcast_to(jnp.asarray(np.log(counts / counts.sum()), jnp.float32), zero.shape)]
    if isinstance(target, (Binary, MultiLabel)) and isinstance(zero, jax.Array) and hasattr(targets, "shape"):
        columns = zero.shape[-1] if isinstance(target, MultiLabel) else 1
        labels = np.asarray(targets, np.float64).reshape(-1, columns)
        share = (labels.sum(axis=0) + 0.5) / (len(labels) + 1.0)
        return [
            jnp.broadcast_to(jnp.asarray(start, jnp.float32), zero.shape)
            for start in (share, np.log(share / (1.0 - share)))
        ]
    if isinstance(target, Values) and isinstance(zero, jax.Array) and hasattr(targets, "shape"):
        values = np.asarray(targets, np.float32)
        if values.size % max(zero.shape[-1], 1) == 0:
            rows = (
                values.reshape(-1, *zero.shape[1:])
                if values[0].size == zero[0].size
                else values.reshape(-1, zero.shape[-1])
            )
            return [
                jnp.broadcast_to(jnp.asarray(average(rows, axis=0)), zero.shape) for average in (np.mean, np.median)
            ]
    return None


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
