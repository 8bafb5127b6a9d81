"""What the declared optimizer makes of one real gradient: leaves that it hands on as they are, clipping that counts
what is frozen, and norms that overflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.first_steps import first_steps, mean_gradient, on_host
from jaxrecipe.setup import Setup

Named = dict[str, np.ndarray]
"""Leaves of a tree like the parameters, by path, float64."""
SAME = 1e-3
"""A step is the raw gradient where it differs from it by less than this share of it: rounding of the parameters."""
MOST_NAMES = 4
"""Parameters that a message names."""


@dataclass(frozen=True)
class DeclaredUpdate:
    """The first step, and what the declared optimizer would add in it.

    Attributes:
        gradients: of the mean loss, in the formats of the parameters.
        updates: what the optimizer makes of them.
        moves: what the loop's step really added.
        frozen: paths that are declared frozen, or that the optimizer leaves alone although they have a gradient.
    """

    gradients: Any
    updates: Named
    moves: Named
    frozen: frozenset[str]


def declared_update(setup: Setup, key: PRNGKeyArray) -> DeclaredUpdate:
    """Look at the first step."""
    step = next(first_steps(setup, key, 1))
    params = step.before[0]
    _, gradients = mean_gradient(setup, step.before, step.batch, step.key)
    gradients = jax.tree.map(lambda grad, param: grad.astype(param.dtype), gradients, params)
    updates, sizes = updates_of(setup, gradients, params), _named(gradients)
    before, after = _named(params), _named(step.after[0])
    moves = {path: after[path] - before[path] for path in before}
    declared = {path for path in sizes if any(trees.matches(path, pattern) for pattern in setup.task.frozen)}
    left_alone = {path for path, grad in sizes.items() if grad.any() and not updates[path].any()}
    return DeclaredUpdate(gradients, updates, moves, frozenset(declared | left_alone))


def updates_of(setup: Setup, gradients: Any, params: Any) -> Named:
    """What the declared optimizer adds in its first step."""

    @jax.jit
    def first(gradients: Any, params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            optimizer = setup.task.optimizer
            return optimizer.update(gradients, optimizer.init(params), params)[0]

    return _named(setup.memo((updates_of,), lambda: first)(gradients, params))


def handed_on(one: DeclaredUpdate) -> list[Finding]:
    """Leaves whose update is their raw gradient, which goes uphill, beside others whose is not."""
    gradients = _named(one.gradients)
    raw = [path for path, grad in gradients.items() if grad.any() and np.array_equal(one.updates[path], grad)]
    real = [path for path in raw if _close(one.moves[path], gradients[path])]
    if not real or len(raw) == sum(bool(grad.any()) for grad in gradients.values()):
        return []
    text = (
        f"{len(real)} of {len(gradients)} parameters move by exactly their gradient, up the loss, as the optimizer "
        f"hands it on unchanged: {_listed(real)}."
    )
    return [failure("optimizer/masked-passes-gradient", text)]


def counts_frozen(setup: Setup, key: PRNGKeyArray, one: DeclaredUpdate, least: float) -> list[Finding]:
    """Updates of what is trained that change when the gradients of what is frozen are set to zero."""
    free = [path for path in one.updates if path not in one.frozen and one.updates[path].any()]
    if not free or not one.frozen:
        return []
    named = trees.named_leaves(one.gradients)
    without = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if any(leaf is named[path] for path in one.frozen) else leaf, one.gradients
    )
    alone = updates_of(setup, without, next(first_steps(setup, key, 1)).before[0])
    mine, ideal, real = (
        np.concatenate([side[path].ravel() for path in free]) for side in (one.updates, alone, one.moves)
    )
    share = float(np.linalg.norm(mine) / max(np.linalg.norm(ideal), np.finfo(float).tiny))
    taken = np.linalg.norm(real - mine) < np.linalg.norm(real - ideal)
    measure = Measure(
        name="step of what is trained, of the step without gradients of what is frozen",
        value=share,
        low=least,
        thresholds={"low": "counted"},
        code="optimizer/clipping-counts-frozen",
    )
    if measure.verdict is None or not taken:
        return []
    text = (
        f"Gradients of {len(one.frozen)} frozen parameters ({_listed(sorted(one.frozen))}) shrink the step of the "
        f"others to {share:.2g} of what it is without them."
    )
    return [failure(measure.code, text, measures=(measure,))]


def norm_overflow(one: DeclaredUpdate) -> list[Finding]:
    """Updates that are all zero, since the norm of the gradients overflows in their own format."""
    if any(update.any() for update in one.updates.values()):
        return []
    with jax.numpy_dtype_promotion("standard"):
        narrow = float(jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(one.gradients))))
    wide = float(np.sqrt(sum(np.square(grad).sum() for grad in _named(one.gradients).values())))
    if not np.isinf(narrow) or not 0 < wide < np.inf:
        return []
    text = f"No parameter moves: the norm of the gradients is {wide:.3g}, and summed in their own format infinite."
    return [failure("precision/norm-overflows", text, causes=causes("precision/norm-overflows"))]


def declared_update_findings(setup: Setup, key: PRNGKeyArray, least: float) -> list[Finding]:
    """All that one real gradient shows of the declared optimizer; nothing where none is declared."""
    if not setup.task.has_optimizer:
        return []
    one = declared_update(setup, key)
    return [*handed_on(one), *counts_frozen(setup, key, one, least), *norm_overflow(one)]


def _close(move: np.ndarray, gradient: np.ndarray) -> bool:
    return bool(np.linalg.norm(move - gradient) <= SAME * np.linalg.norm(gradient))


def _named(tree: Any) -> Named:
    return {path: on_host(leaf) for path, leaf in trees.named_leaves(tree).items() if trees.is_floating(leaf)}


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - MOST_NAMES
    return ", ".join(sorted(paths)[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
