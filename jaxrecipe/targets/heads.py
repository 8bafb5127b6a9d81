"""The table of targets mapped over the heads of a model: `{"digit": jr.Classes(10)}` is treated as `jr.Classes(10)` is.

A single target is one head whose path is empty. Use `heads` to look at each head with its outputs and targets, and the
functions below to make whole trees of outputs.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrecipe.targets.behavior import Behavior, behavior, entropy
from jaxrecipe.targets.declared import Target, TargetTree, is_target
from jaxrecipe.targets.metrics import Metric


class Head(NamedTuple):
    """One declared target, with what stands at its place in the outputs and in the targets.

    Attributes:
        keys: under which it stands in its mappings, ("a", "b"); empty for a single target.
        target: what is declared.
        outputs, targets: None where a tree has no such part, or was not given.
    """

    keys: tuple[Any, ...]
    target: Target
    outputs: Any
    targets: Any

    @property
    def path(self) -> str:
        """The keys as one name, "a/b"; empty for a single target."""
        return "/".join(map(str, self.keys))

    @property
    def behavior(self) -> Behavior:
        """The row of the target."""
        return behavior(self.target)


def heads(target: TargetTree, outputs: Any = None, targets: Any = None) -> list[Head]:
    """Each declared head, in the order of the declaration."""
    return list(_walk(target, outputs, targets, ()))


def _walk(target: Any, outputs: Any, targets: Any, keys: tuple[Any, ...]) -> Iterator[Head]:
    if is_target(target):
        yield Head(keys, target, outputs, targets)
        return
    for name, inner in target.items():
        yield from _walk(inner, _part(outputs, name), _part(targets, name), (*keys, name))


def _part(tree: Any, name: str) -> Any:
    return tree[name] if isinstance(tree, Mapping) and name in tree else None


def each_head(
    change: Callable[[Head], Array | None], target: TargetTree, outputs: Any, targets: Any = None
) -> Any | None:
    """The outputs with every declared head replaced by `change(head)`; None where one is no array or `change` gives
    None.

    Outputs that no head declares stay as they are.
    """
    return _changed(change, target, outputs, targets, ())


def _changed(
    change: Callable[[Head], Array | None], target: Any, outputs: Any, targets: Any, keys: tuple[Any, ...]
) -> Any | None:
    if is_target(target):
        return change(Head(keys, target, outputs, targets)) if is_array(outputs) else None
    if not isinstance(outputs, Mapping):
        return None
    found = {
        name: _changed(change, inner, _part(outputs, name), _part(targets, name), (*keys, name))
        for name, inner in target.items()
    }
    if any(part is None for part in found.values()):
        return None
    return type(outputs)({**outputs, **found})  # pyright: ignore[reportCallIssue]


def uninformed_outputs(target: TargetTree, outputs: Any, *, probabilities: frozenset[str] = frozenset()) -> Any | None:
    """Outputs that say nothing: equal logits for labels, zero for values, float32.

    Args:
        target: what is declared.
        outputs: gives the shapes.
        probabilities: the paths of the heads whose outputs are probabilities and no logits.
    """
    return each_head(lambda h: h.behavior.uninformed(h.target, h.outputs, h.path in probabilities), target, outputs)


def certain_outputs(
    target: TargetTree, outputs: Any, targets: Any, *, probabilities: frozenset[str] = frozenset()
) -> Any | None:
    """Outputs that are right and sure of it: large logits at the labels (or one-hot probabilities), the values
    themselves.

    None where some head cannot say: nothing is declared, or outputs and targets do not fit.
    """

    def certain(head: Head) -> Array | None:
        if head.targets is None:
            return None
        return head.behavior.certain(head.target, head.outputs, head.targets, head.path in probabilities)

    return each_head(certain, target, outputs, targets)


def label_entropies(target: TargetTree, targets: Any) -> dict[str, float]:
    """Entropy in nats of the labels of each head that has labels, by path; see `behavior.entropy`."""
    found = {h.path: entropy(h.target, h.targets) for h in heads(target, None, targets) if is_array(h.targets)}
    return {path: value for path, value in found.items() if value is not None}


def class_counts(target: TargetTree) -> dict[str, int]:
    """Among how many answers each head with labels chooses, by path."""
    found = {head.path: head.behavior.classes(head.target) for head in heads(target)}
    return {path: count for path, count in found.items() if count is not None}


def accuracies(target: TargetTree, outputs: Any, targets: Any) -> dict[str, float]:
    """Share of predictions that are right, of each head with labels, by path; the mean over examples."""
    found = {}
    for head in heads(target, outputs, targets):
        metric = head.behavior.metrics(head.target).get("accuracy")
        if metric is not None and is_array(head.outputs) and is_array(head.targets):
            found[head.path] = float(np.mean(np.asarray(metric(head.outputs, head.targets))))
    return found


def default_metrics(target: TargetTree) -> dict[str, Metric]:
    """The metrics people read for a target: accuracy for labels and tokens, mean absolute error for values.

    A mapping of targets gives one metric a head, named `head/metric`, reading that head of outputs and targets.
    """
    return {
        "/".join((*map(str, head.keys), name)): _at_head(head.keys, metric)
        for head in heads(target)
        for name, metric in head.behavior.metrics(head.target).items()
    }


def _at_head(keys: tuple[Any, ...], metric: Metric) -> Metric:
    """A metric of one head as a metric of all outputs and targets."""
    if not keys:
        return metric

    def at_head(outputs: Any, targets: Any) -> Float[Array, "batch"]:
        for name in keys:
            outputs, targets = outputs[name], targets[name]
        return metric(outputs, targets)

    return at_head


def is_array(part: Any) -> bool:
    """Whether what stands at a head is one array, traced or not."""
    return isinstance(part, jnp.ndarray | np.ndarray)
