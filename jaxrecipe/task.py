"""One training set-up as a value: everything a check needs to know, and nothing that runs by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optax

from jaxrecipe.inputs import InputKinds
from jaxrecipe.parts import NO_LOSS, NO_MODEL, NO_OPTIMIZER, Augment, Loop, LossFn, Model, Prepare
from jaxrecipe.precision.loss_scale import LossScale, no_loss_scale
from jaxrecipe.precision.policy import Policy, parse_policy
from jaxrecipe.targets import Metric, TargetTree, Unspecified, default_metrics


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

    train: Any
    model: Model = NO_MODEL
    loss: LossFn = NO_LOSS
    optimizer: optax.GradientTransformation = NO_OPTIMIZER
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
    def has_model(self) -> bool:
        """Whether a model was given."""
        return self.model is not NO_MODEL

    @property
    def has_loss(self) -> bool:
        """Whether a loss of outputs and targets was given."""
        return self.loss is not NO_LOSS

    @property
    def has_optimizer(self) -> bool:
        """Whether an optimizer was given."""
        return self.optimizer is not NO_OPTIMIZER

    @property
    def precision(self) -> Policy:
        """The policy, parsed."""
        return parse_policy(self.policy)

    @property
    def all_metrics(self) -> dict[str, Metric]:
        """The user's metrics, or those of the target."""
        return dict(self.metrics) if self.metrics is not None else default_metrics(self.target)
