"""Exact evaluation: the whole set, every example once, each with the same weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrecipe.data.batches import steps_per_epoch, stream
from jaxrecipe.data.sources import Source, as_source
from jaxrecipe.objective import extra_cost, make_objective
from jaxrecipe.precision.policy import Policy
from jaxrecipe.training.intervals import Estimate, mean_interval, share_or_mean, shifted, weighted_interval

if TYPE_CHECKING:
    from jaxrecipe.parts import LossFn, Objective, Prepare
    from jaxrecipe.targets import Metric
    from jaxrecipe.task import Task


@dataclass(frozen=True)
class Evaluation:
    """What a model scores on a whole set.

    Attributes:
        values: the mean of "loss" and of each metric, each with its 95 % interval. The loss of an objective is weighted
            and holds its extra terms, as in training.
        per_example: the same numbers of each example, float32 `[size]`, in the order of the data; losses are without
            weight and extra terms.
        size: how many examples there are.
        weights: how much each example counts in the loss, where an objective says so.
    """

    values: Mapping[str, Estimate]
    per_example: Mapping[str, Float[np.ndarray, "size"]]
    size: int
    weights: Float[np.ndarray, "size"] | None = None

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.values["loss"].value

    @property
    def losses(self) -> Float[np.ndarray, "size"]:
        """Loss of each example in the order of the data: `np.argsort(-losses)` ranks the worst first."""
        return self.per_example["loss"]

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of a metric, or of the loss."""
        return self.values[name]

    def __str__(self) -> str:
        """One line: every value with its interval."""
        return ", ".join(f"{name} {estimate}" for name, estimate in self.values.items()) + f" on {self.size} examples"


def evaluate(
    task: "Task", params: Any, model_state: Any, data: Any = None, *, batch_size: int | None = None
) -> Evaluation:
    """Loss and metrics over a whole set under the task's precision policy, prepared, never augmented, in evaluation
    mode.

    The last batch is padded, so one program is compiled, and the padding is dropped, so every example counts exactly
    once whatever the batch size. What the device computes is one float32 number an example; all averaging is done on
    the host in float64. Metrics whose every value is 0 or 1 get Wilson's interval; the loss and all others Student's t.
    An objective's weighted mean is that of the whole set, never a mean of means, and its extra terms are averaged over
    the batches. An objective that draws (diffusion) is given one key a batch, the same at each call, so that what it
    draws depends on the batch size.

    Args:
        task: the training set-up; its data are not touched when `data` is given.
        params: the parameters.
        model_state: the model's state, as it is after training (`state.model_state`).
        data: as `Task.test`, which is the default.
        batch_size: examples a batch, the task's by default; it decides speed and memory, not the result.

    Raises:
        ValueError: no data, or a loss or metric that does not give one number an example.
    """
    if data is None and task.test is None:
        raise ValueError("the task has no test data; give Task(test=(inputs, targets)) or evaluate(..., data=...)")
    source = as_source(task.test if data is None else data)
    batch_size = min(task.batch_size if batch_size is None else batch_size, source.size)
    score = partial(
        _score,
        apply=_hashable(task.model.apply),
        policy=task.precision,
        prepare=_hashable(task.prepare),
        loss=_hashable(task.loss),
        objective=_hashable(task.objective),
        metrics=tuple((name, _hashable(metric)) for name, metric in task.all_metrics.items()),
    )
    joined = _concatenated(_scores(score, params, model_state, source, batch_size), source.size)
    weights, extra = joined.pop(_WEIGHTS, None), joined.pop(_EXTRA, None)
    per_example = {name: joined[name] for name in ("loss", *task.all_metrics) if name in joined}  # jit sorts names
    values = {name: share_or_mean(numbers) for name, numbers in per_example.items()}
    losses = per_example["loss"]
    values["loss"] = mean_interval(losses) if weights is None else weighted_interval(losses, weights)
    if extra is not None:
        values["loss"] = shifted(values["loss"], float(extra.mean(dtype=np.float64)))
    return Evaluation(values, per_example, source.size, weights)


# At module level with the task's functions as static arguments, so that a second evaluation finds the compiled program.
@partial(jax.jit, static_argnames=("apply", "policy", "prepare", "loss", "objective", "metrics"))
def _score(
    params: Any,
    model_state: Any,
    inputs: Any,
    targets: Any,
    batch_index: Any,
    *,
    apply: Any,
    policy: Policy,
    prepare: "Prepare | None",
    loss: "LossFn",
    objective: "Objective | None",
    metrics: "tuple[tuple[str, Metric], ...]",
) -> dict[str, Float[Array, "batch"]]:
    """Loss and metrics of each example of a batch, and what an objective says of weights and extra terms."""
    batch = jax.tree.leaves(inputs)[0].shape[0]
    if prepare is not None:
        inputs, targets = prepare(inputs, targets)
    key = None if objective is None else jax.random.fold_in(jax.random.key(0), batch_index)
    costs = make_objective(apply, loss, objective, policy)(params, model_state, inputs, targets, train=False, key=key)
    if "loss" in dict(metrics):
        raise ValueError('a metric is called "loss", which is the name of the loss itself; rename it')
    scores = {"loss": costs.losses}
    if costs.outputs is not None:
        scores |= {name: metric(costs.outputs, targets) for name, metric in metrics}
    if costs.weights is not None:
        scores[_WEIGHTS] = costs.weights
    if costs.extra is not None:
        scores[_EXTRA] = jnp.broadcast_to(extra_cost(costs), (batch,))
    wrong = [f"{name} gave {list(values.shape)}" for name, values in scores.items() if values.shape != (batch,)]
    if wrong:
        raise ValueError(
            f"one number an example was wanted, [{batch}], but {', '.join(wrong)}. "
            "Take the mean over every axis but the first; jr.per_example adapts a loss that gives a scalar."
        )
    return {name: values.astype(jnp.float32) for name, values in scores.items()}


_WEIGHTS, _EXTRA = "(weights)", "(extra)"
"""Under which what an objective says beside the losses travels among the scores; no metric is called so."""


def _hashable(function: Any) -> Any:
    """The function itself, or one around a callable that has no hash (which is then compiled anew each time)."""
    try:
        hash(function)
    except TypeError:

        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call
    return function


def _scores(
    score: Any, params: Any, model_state: Any, source: Source, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """The scores of each batch, without the padding. Reads one batch behind, so that the device is never idle."""
    previous = None
    batches = stream(
        source, seed=0, batch_size=batch_size, steps=steps_per_epoch(source.size, batch_size), shuffle=False
    )
    for index, batch in enumerate(batches):
        current = score(params, model_state, batch.inputs, batch.targets, np.int32(index)), batch.mask
        if previous is not None:
            yield _counted(*previous)
        previous = current
    if previous is not None:
        yield _counted(*previous)


def _counted(scores: Mapping[str, Array], mask: Array) -> dict[str, np.ndarray]:
    """The numbers of the examples that count, on the host."""
    host, kept = jax.device_get((scores, mask))
    return {name: values[kept] for name, values in host.items()}


def _concatenated(batches: Iterator[dict[str, np.ndarray]], size: int) -> dict[str, np.ndarray]:
    """One array of `size` numbers a name, in the order of the data."""
    columns: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for name, values in batch.items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    if any(len(values) != size for values in joined.values()):
        counted = {name: len(values) for name, values in joined.items()}
        raise RuntimeError(
            f"the batches held {counted} examples of {size}: a bug in how they are made; please report it"
        )
    return joined
