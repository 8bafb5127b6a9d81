"""What takes a batch: prepare, model, loss and metrics, each on the batch, in reverse order, and on some examples
alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.data.batches import batch_indices
from jaxrecipe.probes.changed_values import revealing_parameters
from jaxrecipe.probes.dependencies import on_host, revealed_outputs
from jaxrecipe.probes.rounding import noise_floor
from jaxrecipe.setup import Setup

MOST = 1e9
"""Difference that is reported at most, where a result hardly varies."""
FLAT = 1e-3
"""Share of the size of a result that its spread counts as at least, so that a constant result has a scale too."""


class Part(NamedTuple):
    """A part of the set-up.

    Attributes:
        name: what it is called.
        run: `run(fixed, arguments) -> a tree with a batch axis`, for arguments that are a tree with a batch axis.
        fixed, arguments: what it is given for the set-up's first batch.
        compiled: whether it runs a program of the set-up, which is there already for a whole batch.
    """

    name: str
    run: Callable[[Any, Any], Any]
    fixed: Any
    arguments: Any
    compiled: bool = False


@dataclass(frozen=True)
class Compared:
    """How a batch compares to its examples, and to itself in reverse.

    Attributes:
        part: what was run.
        alone, reversed: largest difference, as a share of the spread of the batch.
        noise: what rounding alone may differ by, as such a share.
        problem: why the part does not come through on one example; empty when it does.
        whole, singles: the first leaf of the result for the examples that were run alone, in the batch and alone.
    """

    part: Part
    alone: float = 0.0
    reversed: float = 0.0
    noise: float = 0.0
    problem: str = ""
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0))
    singles: np.ndarray = field(default_factory=lambda: np.zeros(0))


def parts_of(setup: Setup, key: PRNGKeyArray) -> list[Part]:
    """Everything that takes a batch, with the arguments of the set-up's first batch; prepare alone where examples may
    mix.
    """
    task, found = setup.task, []
    if (prepare := task.prepare) is not None:
        indices, _ = batch_indices(setup.seed, 0, setup.train.size, setup.batch_size)
        found.append(Part("prepare", lambda _, raw: prepare(*raw), (), on_host(setup.train.gather(indices))))
    if task.mixes_examples:
        return found

    def model(fixed: Any, inputs: Any) -> Any:
        params, model_state, drawn = fixed
        return setup.forward(params, model_state, inputs, train=False, key=drawn)[0]

    inputs, targets = on_host(setup.batch)
    variables = (revealing_parameters(setup, key), setup.model_state, key)
    pair = (revealed_outputs(setup, key), targets)
    found.append(Part("model", model, variables, inputs, compiled=True))
    found.append(Part("loss", lambda _, pair: setup.losses(*pair), (), pair, compiled=True))
    for name, metric in task.all_metrics.items():
        found.append(Part(name, lambda _, pair, metric=metric: metric(*pair), (), pair))
    return found


def compare(parts: Sequence[Part], alone: np.ndarray, rounding: float) -> list[Compared]:
    """Each part on the batch, on some examples alone, and on the batch in reverse order; one program for each shape."""
    problems = {part.name: problem_alone(part) for part in parts}
    sound = [part for part in parts if not problems[part.name]]
    size = trees.leading_size(parts[0].arguments) if parts else 0
    run = jax.jit(_run_all, static_argnums=0)

    def results(which: Any, *, batch: bool) -> dict[str, list[np.ndarray]]:
        """Each sound part on some examples: on a whole batch those that are compiled as they are, all others in one
        program.
        """
        rows = {part.name: rows_of(part.arguments, which) for part in sound}
        together = tuple(part for part in sound if not (batch and part.compiled))
        fixed, given = ({part.name: of[part.name] for part in together} for of in (all_fixed, rows))
        runs = tuple((part.name, part.run) for part in together)
        found = dict(run(runs, fixed, given)) if runs else {}
        found |= {part.name: part.run(part.fixed, rows[part.name]) for part in sound if part.name not in fixed}
        return {name: flat_rows(tree) for name, tree in found.items()}

    all_fixed = {part.name: part.fixed for part in sound}
    whole, backwards = (results(order, batch=True) for order in (np.arange(size), np.arange(size)[::-1]))
    singles = [results([i], batch=False) for i in alone]
    found = {}
    for part in sound:
        own = (whole[part.name], backwards[part.name], [single[part.name] for single in singles])
        found[part.name] = _compared(part, alone, own, rounding)
    return [found.get(part.name, Compared(part, problem=problems[part.name])) for part in parts]


def _run_all(runs: tuple[tuple[str, Callable[[Any, Any], Any]], ...], fixed: Any, given: Any) -> dict[str, Any]:
    """Several parts in one program."""
    return {name: one(fixed[name], given[name]) for name, one in runs}


def problem_alone(part: Part) -> str:
    """Why a part does not come through on a batch of one, by its shapes alone; empty when it does."""
    whole = jax.eval_shape(part.run, part.fixed, part.arguments)
    try:
        single = jax.eval_shape(part.run, part.fixed, rows_of(part.arguments, [0]))
    except Exception as error:  # the user's own function, on a batch of one: that it fails is the finding
        return f"a batch of one fails: {type(error).__name__}"
    shapes = [[leaf.shape[1:] for leaf in jax.tree.leaves(tree)] for tree in (whole, single)]
    first_axes = {leaf.shape[:1] for leaf in jax.tree.leaves(single)}
    if shapes[0] != shapes[1] or first_axes != {(1,)}:
        return f"a batch of one has shapes {[leaf.shape for leaf in jax.tree.leaves(single)]}"
    return ""


def depends_on_place(part: Part, tolerance: float) -> bool:
    """Whether an example's result depends on its place and not on the others: the first stays, all the rest become one
    of them.
    """
    size = trees.leading_size(part.arguments)
    if size < 3:
        return False
    run = jax.jit(part.run)
    whole = flat_rows(run(part.fixed, part.arguments))
    for other in (1, size - 1):
        among_copies = flat_rows(run(part.fixed, rows_of(part.arguments, [0] + [other] * (size - 1))))
        first = [[leaf[:1] for leaf in leaves] for leaves in (whole, among_copies)]
        if largest_difference(whole, *first) > tolerance:
            return False
    return True


def rows_of(tree: Any, which: Any) -> Any:
    """Some examples of a tree, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(which)], tree)


def flat_rows(tree: Any) -> list[np.ndarray]:
    """Each leaf with one row an example, float64."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf.astype(np.float64).reshape(len(leaf), -1) for leaf in leaves]


def largest_difference(whole: list[np.ndarray], a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Largest difference of two results over all leaves, each as a share of the spread of the whole one; NaN equals
    NaN.
    """
    worst = 0.0
    for reference, one, other in zip(whole, a, b, strict=True):
        with np.errstate(invalid="ignore"):
            off = np.abs(one - other)
        off[(np.isnan(one) & np.isnan(other)) | (one == other)] = 0.0
        worst = max(worst, float(np.nan_to_num(off, nan=np.inf).max(initial=0.0)) / _scale(reference))
    return min(worst, MOST)


def _compared(
    part: Part,
    alone: np.ndarray,
    own: tuple[list[np.ndarray], list[np.ndarray], list[list[np.ndarray]]],
    rounding: float,
) -> Compared:
    """One part's results on the batch, in reverse order and alone, compared."""
    whole, backwards, singles = own
    together = [np.concatenate(leaves) for leaves in zip(*singles, strict=True)]
    return Compared(
        part=part,
        alone=largest_difference(whole, [leaf[alone] for leaf in whole], together),
        reversed=largest_difference(whole, whole, [leaf[::-1] for leaf in backwards]),
        noise=max((noise_floor(leaf, rounding) / _scale(leaf) for leaf in whole), default=0.0),
        whole=whole[0][alone],
        singles=together[0],
    )


def _scale(values: np.ndarray) -> float:
    """The spread of a result, or a small share of its size where it hardly varies."""
    size = float(np.nanmax(np.abs(values), initial=0.0))
    return max(float(np.nanstd(values)), FLAT * size, float(jnp.finfo(jnp.float32).tiny))
