"""What is wrong between the declared target, the targets and the outputs: shapes, dtypes and ranges of labels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from jaxrecipe.validate.data import Split, chunks
from jaxrecipe.validate.problem import Problem, PyTree, described, kind_of, shape_of
from jaxrecipe.validate.shapes import Traced

Finding = tuple[str, str, str, str]
"""Where (added to the head), got, wanted, fix."""


def heads(target: Any, *picked: PyTree, path: str = "") -> Iterator[tuple[str, Target, tuple[Any, ...]]]:
    """Each declared target with its path and what stands there in each tree; None where a tree has no such part."""
    if not isinstance(target, Mapping):
        yield path, target, picked
        return
    for head, inner in target.items():
        parts = [tree[head] if isinstance(tree, Mapping) and head in tree else None for tree in picked]
        yield from heads(inner, *parts, path=f"{path}[{head!r}]")


def find_shapes(traced: Traced, task: Task) -> None:
    """The targets and the outputs must have the shapes and dtypes of the declared target."""
    batch_targets = traced.batch[1]
    for path, target, (labels, outputs) in heads(task.target, batch_targets, traced.evaluated):
        if isinstance(target, Unspecified):
            continue
        missing = _missing(labels, "targets", batch_targets)
        missing = missing or (traced.evaluated is not None and _missing(outputs, "outputs", traced.evaluated))
        if missing:
            findings = [missing]
        else:
            findings = [
                *_problems_of_labels(target, labels),
                *(_problems_of_outputs(target, outputs, labels) if outputs is not None else ()),
            ]
        for side, got, wanted, fix in findings:
            soft = isinstance(target, Values) and side == "targets"
            traced.problems.append(
                Problem(
                    where=f"task.target{path}, {side}",
                    got=got,
                    wanted=wanted,
                    fix=fix,
                    severity="warning" if soft and "integers" in got else "error",
                )
            )


def _missing(part: Any, side: str, whole: PyTree) -> Finding | None:
    """A finding when a head is not there, or is no single array."""
    if trees.is_array(part):
        return None
    what = f"nothing there among {described(whole)}" if part is None else f"{kind_of(part)}: {described(part)}"
    return (
        side,
        what,
        "one array for each declared target",
        "Declare the target with the keys of the targets and outputs.",
    )


def _problems_of_labels(target: Target, labels: Any) -> Iterator[Finding]:
    got, size = shape_of(labels), labels.shape[0]
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    match target:
        case Classes(n=n) if not integer:
            one_hot = labels.shape[-1:] == (n,) and labels.ndim > 1
            fix = (
                "Give class numbers; make them one-hot inside of the loss."
                if one_hot
                else "Cast them: y.astype(jnp.int32)."
            )
            yield "targets", got, f"integer class numbers in [0, {n})", fix
        case Tokens(vocabulary=n) if not integer or labels.ndim < 2:
            yield (
                "targets",
                got,
                f"integer tokens [batch, time] in [0, {n})",
                "Cast them, and give one token a position.",
            )
        case Binary() if labels.shape not in ((size,), (size, 1)):
            fix = "For several labels an example declare jr.MultiLabel(n)."
            yield "targets", got, f"one label an example, [{size}] or [{size}, 1]", fix
        case MultiLabel(n=n) if labels.shape != (size, n):
            yield "targets", got, f"[{size}, {n}] of 0 and 1", "Give every label of every example, or change n."
        case Values() if not trees.is_floating(labels):
            fix = "Cast them in prepare: y.astype(jnp.float32); class numbers want jr.Classes(n)."
            yield "targets", f"integers, {got}", "floating values", fix


def _problems_of_outputs(target: Target, outputs: Any, labels: Any) -> Iterator[Finding]:
    size, shape = labels.shape[0], labels.shape
    match target:
        case Classes(n=n) | Tokens(vocabulary=n) if jnp.issubdtype(labels.dtype, jnp.integer):
            right, wanted = outputs.shape == (*shape, n), f"logits {[*shape, n]}, one for each of {n} classes"
            fix = f"The declared number of classes is {n}: change it or the last layer."
            if outputs.shape[-1:] == (n,):
                fix = (
                    f"Targets are {shape_of(labels)}: bring them and the logits to the same axes, by squeezing or "
                    "pooling."
                )
        case Binary():
            right, wanted = outputs.shape in ((size,), (size, 1)), f"one logit an example, [{size}] or [{size}, 1]"
            fix = "Give the last layer one unit; for two units declare jr.Classes(2)."
        case MultiLabel(n=n):
            right, wanted = outputs.shape == (size, n), f"logits [{size}, {n}]"
            fix = "Change the last layer, or n."
        case Values():
            right, wanted = (
                outputs.size == labels.size and outputs.shape[:1] == (size,),
                f"values like {shape_of(labels)}",
            )
            fix = (
                "Change the last layer; when outputs are not estimates of the targets (mean and spread), declare "
                "no target."
            )
        case _:
            return
    floating = trees.is_floating(outputs)
    fix = fix if floating else "Give floating logits or values, not decisions."
    if not right or not floating:
        yield "outputs", shape_of(outputs), wanted, fix


@dataclass
class Range:
    """Values of the labels of one head, as far as they have been seen."""

    lowest: float = np.inf
    highest: float = -np.inf
    outside: int = 0
    seen: int = 0
    first: int = -1

    def add(self, rows: np.ndarray, labels: np.ndarray, allowed: Callable[[np.ndarray], np.ndarray]) -> None:
        """Look at the labels of some rows."""
        labels = labels.reshape(len(rows), -1).astype(np.float64)
        bad = ~allowed(labels) & ~np.isnan(labels)
        if labels.size and not np.isnan(labels).all():
            self.lowest, self.highest = min(self.lowest, np.nanmin(labels)), max(self.highest, np.nanmax(labels))
        self.seen += labels.size
        if bad.any() and not self.outside:
            self.first = int(rows[bad.any(axis=1)][0])
        self.outside += int(bad.sum())


def find_ranges(traced: Traced, task: Task, split: Split) -> None:
    """Labels out of range, on the host: on a device an index that is too large silently becomes another one."""
    declared = [
        (path, target, labels)
        for path, target, (labels,) in heads(task.target, traced.batch[1])
        if not isinstance(target, Values | Unspecified) and trees.is_array(labels)
    ]
    if not declared:
        return
    found = {path: Range() for path, _, _ in declared}
    targets_of = _prepared_targets(task)
    for rows, (inputs, targets) in chunks(split):
        for path, target, (labels,) in heads(task.target, targets_of(inputs, targets)):
            if path in found:
                found[path].add(rows, np.asarray(labels), _allowed(target))
    for path, target, _ in declared:
        if found[path].outside:
            traced.problems.append(_out_of_range(f"{split.where}, targets{path}", target, found[path]))


def _prepared_targets(task: Task) -> Callable[[PyTree, PyTree], PyTree]:
    """`(inputs, targets)` as they are to the targets that the loss gets; the compiler drops what only inputs need."""
    prepare = task.prepare
    if prepare is None:
        return lambda _, targets: targets
    return jax.jit(lambda inputs, targets: prepare(inputs, targets)[1])


def _allowed(target: Target) -> Callable[[np.ndarray], np.ndarray]:
    match target:
        case Classes(n=n):
            return lambda labels: (labels >= 0) & (labels < n) & (labels == np.floor(labels))
        case Tokens(vocabulary=n, pad=pad):
            return lambda labels: (labels >= 0) & (labels < n) | (labels == pad if pad is not None else False)
    return lambda labels: (labels == 0) | (labels == 1)


def _out_of_range(where: str, target: Target, seen: Range) -> Problem:
    count = target.n if isinstance(target, Classes) else target.vocabulary if isinstance(target, Tokens) else None
    got = (
        f"labels from {seen.lowest:g} to {seen.highest:g}: {seen.outside} of {seen.seen} out of range, "
        f"first in example {seen.first}"
    )
    if count is None:
        fix = "Map the labels to 0 and 1 in prepare."
        return Problem(where=where, got=got, wanted=f"0 or 1, as {target} says", fix=fix)
    fix = "JAX would take another class for these without a word: correct the labels, or the declared number."
    code = "data/labels-out-of-range"
    if seen.lowest == 1 and seen.highest == count:
        fix, code = "They seem to count from 1: subtract 1 in prepare.", "data/labels-from-one"
    elif 0 <= seen.lowest <= seen.highest < 1:
        fix, code = "They seem to have been scaled like the inputs: scale the inputs only.", "data/labels-scaled"
    elif seen.lowest < 0 and isinstance(target, Tokens):
        fix = f"If negative ones are padding, declare it: jr.Tokens({count}, pad={seen.lowest:g})."
    return Problem(where=where, got=got, wanted=f"integers in [0, {count}), as {target} says", fix=fix, code=code)
