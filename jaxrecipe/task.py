"""One training set-up as values: Model, Loop and Task. Everything a check needs to know, and nothing that runs by
itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe.inputs import InputKinds
from jaxrecipe.precision.loss_scale import LossScale, no_loss_scale
from jaxrecipe.precision.policy import Policy, parse_policy
from jaxrecipe.targets import Metric, TargetTree, Unspecified, default_metrics

PyTree = Any
Inputs = PyTree
"""A pytree of arrays with a leading batch axis."""
Targets = PyTree
"""A pytree of arrays with the same leading batch axis."""
LossFn = Callable[[PyTree, Targets], Float[Array, "batch"]]
"""`loss(outputs, targets) -> [batch]`: one number an example. The library takes the mean, in float32."""
Prepare = Callable[[Inputs, Targets], tuple[Inputs, Targets]]
Augment = Callable[[PRNGKeyArray, Inputs, Targets], tuple[Inputs, Targets]]


@dataclass(frozen=True)
class Model:
    """A model as two pure functions.

    Attributes:
        init: `init(key, inputs) -> (params, state)`. `params` is what the optimizer trains; `state` is what a forward
            pass may change (batch statistics), `{}` or `()` when there is none.
        apply: `apply(params, state, inputs, *, train, key) -> (outputs, state)`. `train` is a Python bool;
            `key` feeds dropout and the like, and may be None when `train` is False.
        name: what reports call it.
    """

    init: Callable[[PRNGKeyArray, Inputs], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[PyTree, PyTree]]
    name: str = "model"


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The user's own training loop, so that the checks exercise what will really run.

    The state may be of any type that is a pytree. Each function may be jitted and may donate its state: it is only
    ever given a copy. Inputs and targets arrive prepared (and, for `step`, augmented) if the task says how.

    Attributes:
        init: `init(key) -> state`, a fresh state: parameters, optimizer state and all.
        step: `step(state, inputs, targets, key) -> (state, metrics)`, one update on one batch; `metrics` is a mapping
            of scalars that may hold "loss".
        variables: `variables(state) -> (params, model_state)`, in the form that the task's `Model.apply` takes.
        evaluate: `evaluate(state, inputs, targets, batch_size) -> {name: number}` over the whole set that is given, or
            None.
        predict: `predict(state, inputs) -> outputs` as used at evaluation time, or None.
        save, restore: `save(state, directory)` and `restore(directory, template) -> state`, or None.
        batches: `batches(epoch) -> iterable of (inputs, targets)`, the batches of epoch 0, 1, ... as your loader hands
            them out, in that order and before `Task.prepare` and `Task.augment`; or None. `data_order` looks at two
            epochs of them.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    step: Callable[[PyTree, Inputs, Targets, PRNGKeyArray], tuple[PyTree, Mapping[str, Any]]]
    variables: Callable[[PyTree], tuple[PyTree, PyTree]]
    evaluate: Callable[[PyTree, Inputs, Targets, int], Mapping[str, Any]] | None = None
    predict: Callable[[PyTree, Inputs], PyTree] | None = None
    save: Callable[[PyTree, str], None] | None = None
    restore: Callable[[str, PyTree], PyTree] | None = None
    batches: Callable[[int], Iterable[tuple[Inputs, Targets]]] | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training set-up: pure functions, data and declared facts. Making one runs nothing and copies nothing.

    Attributes:
        model: made by `jr.linen`, `jr.nnx`, `jr.equinox` or by hand.
        loss: `loss(outputs, targets) -> [batch]`, one number an example (`jr.per_example` adapts a loss that gives a
            scalar).
        optimizer: any optax gradient transformation, schedules and clipping included.
        train, test: `(inputs, targets)` of arrays with a leading batch axis (any pytree), or anything with `len` and
            `[]` whose items are `(inputs, targets)` of one example.
        target: what is predicted (`jr.Classes(10)`, ...); a mapping for a model with several heads.
        inputs: what the inputs are, "image", "sequence", "tokens" or "table"; a mapping from path to kind where there
            are several. Guessed by shape and dtype where it is not given; the guess stands in the report.
        batch_size: examples a training step.
        prepare: deterministic, traceable by JAX, for training and evaluation alike: decode, scale, one-hot.
        augment: random, training only, after `prepare`; keeps the structure of the batch.
        metrics: `name -> metric(outputs, targets) -> [batch]`; by default those of the target.
        policy: precision, a `Policy` or a name such as "bfloat16".
        loss_scale: initial loss scale (`jr.dynamic_loss_scale()`), for float16.
        loop: the user's own training loop, when there is one.
        frozen: patterns (`"backbone/*"`) of the parameter paths that are meant to stay as they are.
        mixes_examples: declares that one example's loss may depend on other examples (contrastive loss, mixup).
        causal: declares that output t may only depend on inputs up to t; True for autoregressive models.
        capacities: models of growing capacity, smallest first, for `verify_decreasing_training_loss`.
        human: accuracy of a person on the test data, in [0, 1], for `human_baseline`.
    """

    model: Model
    loss: LossFn
    optimizer: optax.GradientTransformation
    train: Any
    test: Any = None
    target: TargetTree = field(default_factory=Unspecified)
    inputs: InputKinds | None = None
    batch_size: int = 32
    prepare: Prepare | None = None
    augment: Augment | None = None
    metrics: Mapping[str, Metric] | None = None
    policy: Policy | str = "float32"
    loss_scale: LossScale = field(default_factory=no_loss_scale)
    loop: Loop | None = None
    frozen: Sequence[str] = ()
    mixes_examples: bool = False
    causal: bool = False
    capacities: Sequence[Model] = ()
    human: float | None = None
    name: str = "task"

    def replace(self, **changes: Any) -> "Task":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def precision(self) -> Policy:
        """The policy, parsed."""
        return parse_policy(self.policy)

    @property
    def all_metrics(self) -> dict[str, Metric]:
        """The user's metrics, or those of the target."""
        return dict(self.metrics) if self.metrics is not None else default_metrics(self.target)


def per_example(loss: Callable[[PyTree, Targets], Float[Array, ""]]) -> LossFn:
    """Turn a loss that reduces a batch to a scalar into one that gives `[batch]`.

    The given loss is called on batches of one example, which makes any sum or mean over the batch harmless. A loss
    that needs the whole batch (contrastive) cannot be adapted this way: write it to give one number an example.
    """

    def losses(outputs: PyTree, targets: Targets) -> Float[Array, "batch"]:
        def one(output: PyTree, target: PyTree) -> Float[Array, ""]:
            alone = jax.tree.map(lambda leaf: leaf[None], (output, target))
            return loss(*alone)

        return jax.vmap(one)(outputs, targets)

    return losses
