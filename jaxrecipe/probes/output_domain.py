"""What the loss takes the outputs for: logits or probabilities, squashed once or twice; head by head."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrecipe import trees
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, certain_outputs, each_head, heads, uninformed_outputs

NEARLY_ZERO = 0.1
"""Nats that a certain and right answer may cost in a loss on probabilities, which clips them."""
AS_EXPECTED = 0.05
"""A value this close (relative, or in nats near zero) to the one that a rule predicts is taken to follow the rule."""
SAME_FLOOR = 0.01
"""The floor of a squashing applied twice is an equality; this much is left for rounding and for averages."""
ON_SIMPLEX = 1e-2
"""How far a sum of probabilities may be from one: half precision rounds ten of them by as much."""
OUTSIDE = 1e-3
"""Beyond [0, 1] by more than this is no rounding."""
FEW_OUTSIDE = 0.05
"""More than this share of outputs outside of [0, 1] are no probabilities."""
BLOWN_UP = 64.0
"""Parameters this many times as large drive any logits out of [0, 1]."""

CONFINED = 10.0
"""Outputs that stay below this under such parameters are confined: nothing else keeps them there."""


def are_probabilities(outputs: Any) -> bool:
    """Whether every output vector lies on the simplex: not negative and summing to one, over two entries or more."""
    return all(map(_on_simplex, jax.tree.leaves(outputs)))


def probability_heads(setup: Setup, outputs: Any, targets: Any) -> frozenset[str]:
    """The heads whose outputs are probabilities that the loss is made for: right ones cost nothing."""
    found = frozenset(
        head.path for head in heads(setup.task.target, outputs, targets) if _look_like_probabilities(head)
    )
    certain = certain_outputs(setup.task.target, outputs, targets, probabilities=found) if found else None
    return frozenset() if certain is None or not _mean_loss(setup, certain, targets) < NEARLY_ZERO else found


def wants_probabilities(setup: Setup, outputs: Any, targets: Any) -> bool:
    """Whether the model gives probabilities at some head, and the loss is made for them."""
    return bool(probability_heads(setup, outputs, targets))


def logits_as_probabilities(setup: Setup, outputs: Any, targets: Any) -> tuple[str, ...]:
    """The heads at which the loss wants probabilities and the model gives something else, by path.

    Such a loss is nothing at probabilities that are certain and right, and log(n) at equal ones; no loss on logits is
    both.
    """
    found, others = [], probability_heads(setup, outputs, targets)
    for head in heads(setup.task.target, outputs, targets):
        classes = head.behavior.classes(head.target)
        if classes is None or not _some_outside(head.outputs):
            continue
        probabilities = others | {head.path}
        certain = certain_outputs(setup.task.target, outputs, targets, probabilities=probabilities)
        if certain is None:
            continue
        equal = each_head(
            lambda h, head=head: h.behavior.uninformed(h.target, h.outputs, True) if h.path == head.path else h.outputs,
            setup.task.target,
            certain,
        )
        at_certain, at_equal = _mean_loss(setup, certain, targets), _mean_loss(setup, equal, targets)
        if at_certain < AS_EXPECTED and abs(at_equal - np.log(classes)) < AS_EXPECTED * np.log(classes):
            found.append(head.path)
    return tuple(found)


def logits_as_probabilities_at_init(setup: Setup) -> tuple[str, ...]:
    """The same of the untrained model, asked once for all checks."""
    start = setup.at_init
    return setup.memo(
        logits_as_probabilities_at_init, lambda: logits_as_probabilities(setup, start.outputs, start.targets)
    )


def squashed_twice(setup: Setup, outputs: Any, targets: Any) -> dict[str, Literal["model", "loss"]]:
    """The heads at which a softmax or sigmoid is applied twice, by path, and where the first of the two is.

    A certain and right answer then costs what the second makes of the first: log(1 + (n - 1)/e) for a softmax over n
    classes, log(1 + 1/e) for a yes and log(2) for a no behind a sigmoid. In the model: the outputs are probabilities,
    and the loss of certain ones is that number. In the loss: it is that number whatever the logits are.
    """
    found: dict[str, Literal["model", "loss"]] = {}
    for head in heads(setup.task.target, outputs, targets):
        floor = _floor_of_two(head)
        if floor is None:
            continue
        if _look_like_probabilities(head) and _costs(setup, floor, outputs, targets, head, probabilities=True):
            if head.behavior.form == "exclusive" or _stay_probabilities(setup):
                found[head.path] = "model"
        elif all(_costs(setup, floor, outputs, targets, head, strength=strength) for strength in (1.0, 2.0)):
            found[head.path] = "loss"
    return found


def _costs(
    setup: Setup,
    floor: float,
    outputs: Any,
    targets: Any,
    head: Head,
    *,
    probabilities: bool = False,
    strength: float = 1.0,
) -> bool:
    """Whether certain and right answers cost just so much, one head's made stronger or probabilities."""
    paths = frozenset({head.path}) if probabilities else frozenset()
    certain = certain_outputs(setup.task.target, outputs, targets, probabilities=paths)
    if certain is None:
        return False
    answer = each_head(lambda h: strength * h.outputs if h.path == head.path else h.outputs, setup.task.target, certain)
    return abs(_mean_loss(setup, answer, targets) - floor) < SAME_FLOOR * floor


def _stay_probabilities(setup: Setup) -> bool:
    """Whether the outputs stay in [0, 1] when all parameters are made far larger, and of the other sign: something
    confines them, which small logits that only happen to lie there do not survive.
    """
    ends = [_outputs_of_larger_parameters(setup, factor) for factor in (BLOWN_UP, -BLOWN_UP)]
    moved = any((one != other).any() for one, other in zip(*ends, strict=True))
    return moved and all(share_outside(leaf) == 0.0 for end in ends for leaf in end)


def _outputs_of_larger_parameters(setup: Setup, factor: float) -> list[np.ndarray]:
    """Outputs of the first batch with all parameters so many times as large."""
    (params, model_state), (inputs, _) = setup.variables, setup.batch
    larger = jax.tree.map(
        lambda leaf: leaf * jnp.asarray(factor, leaf.dtype) if trees.is_floating(leaf) else leaf, params
    )
    given, _ = setup.forward(larger, model_state, inputs, train=True, key=setup.key)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(given)]


def outputs_confined(setup: Setup) -> bool:
    """Whether all outputs stay within an ordinary range however large the parameters are, as cosines do."""
    ends = [_outputs_of_larger_parameters(setup, factor) for factor in (BLOWN_UP, -BLOWN_UP)]
    return all(bool((np.abs(leaf) <= CONFINED).all()) for end in ends for leaf in end)


def _floor_of_two(head: Head) -> float | None:
    """What a certain and right answer costs behind two softmaxes or sigmoids, averaged over the labels of a head."""
    if head.targets is None:
        return None
    labels, classes = head.behavior.labels(head.target, head.targets), head.behavior.classes(head.target)
    if labels is None or classes is None or classes < 2:
        return None
    if head.behavior.form == "exclusive":
        return float(np.log1p((classes - 1) / np.e))
    yes = float(labels.mean())
    return float(yes * np.log1p(1 / np.e) + (1 - yes) * np.log(2.0))


def is_flat(setup: Setup, outputs: Any, targets: Any) -> bool:
    """Whether the loss has no gradient at all with respect to these outputs."""
    floating = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
    slopes = jax.grad(lambda outputs: setup.losses(outputs, targets).sum())(floating)
    return all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(slopes))


def into_domain(setup: Setup, probabilities: frozenset[str]) -> Callable[[Any], Any]:
    """Maps free numbers, shaped as the outputs, to where outputs live: probabilities at these heads."""

    def one(head: Head) -> Array:
        if head.path not in probabilities:
            return head.outputs
        return jax.nn.softmax(head.outputs) if head.behavior.form == "exclusive" else jax.nn.sigmoid(head.outputs)

    return lambda free: each_head(one, setup.task.target, free) if probabilities else free


def uninformed(setup: Setup, outputs: Any, targets: Any) -> Any | None:
    """Outputs that say nothing, as logits or probabilities, whichever this loss takes."""
    probabilities = probability_heads(setup, outputs, targets)
    return uninformed_outputs(setup.task.target, outputs, probabilities=probabilities)


def _look_like_probabilities(head: Head) -> bool:
    """Whether what stands at a head with labels could be probabilities."""
    if not isinstance(head.outputs, jax.Array | np.ndarray):
        return False
    if head.behavior.form == "independent":
        return not _some_outside(head.outputs, most=0.0)
    return head.behavior.form == "exclusive" and _on_simplex(head.outputs)


def _on_simplex(leaf: Any) -> bool:
    values = np.asarray(leaf, np.float64)
    if values.ndim < 2 or values.shape[-1] < 2:
        return False
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1.0, atol=ON_SIMPLEX))


def share_outside(outputs: Any) -> float:
    """Share of the outputs that lie outside of [0, 1]."""
    values = np.asarray(outputs, np.float64)
    return float(((values < -OUTSIDE) | (values > 1.0 + OUTSIDE)).mean())


def _some_outside(outputs: Any, most: float = FEW_OUTSIDE) -> bool:
    return isinstance(outputs, jax.Array | np.ndarray) and share_outside(outputs) > most


def _mean_loss(setup: Setup, outputs: Any, targets: Any) -> float:
    return float(setup.losses(outputs, targets).mean())
