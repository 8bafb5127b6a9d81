"""One training set-up as a value: everything a check needs to know, and nothing that runs by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxrecipe.adapters.step import bare_step
from jaxrecipe.inputs import InputKinds
from jaxrecipe.parts import NO_LOSS, NO_MODEL, NO_OPTIMIZER, Absent, Augment, Loop, LossFn, Model, Objective, Prepare
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
        objective: what a batch costs where a loss of outputs and targets cannot say it:
            `objective(params, model_state, inputs, targets, *, train, key) -> jr.Costs`. Give this or `loss`. The
            parameters still come from `model.init`; `model.apply` may be left out.
        optimizer: any optax gradient transformation, schedules and clipping included; of an `nnx.Optimizer` its `tx`.
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
        steps: how long training is, in steps of the loop (each on one batch), so that schedules can be judged by it.
        capacities: models of growing capacity, smallest first, for `verify_decreasing_training_loss`.
        human: accuracy of a person on the test data, in [0, 1], for `human_baseline`.
    """

    train: Any
    model: Model = NO_MODEL
    loss: LossFn = NO_LOSS
    objective: Objective | None = None
    optimizer: Any = NO_OPTIMIZER
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
    steps: int | None = None
    capacities: Sequence[Model] = ()
    human: float | None = None
    name: str = "task"

    @classmethod
    def from_step(
        cls,
        step: Callable[..., Any],
        state: Any,
        batches: Any,
        *,
        key: Any = None,
        take: int = 64,
        targets: str | Sequence[str] | bool | None = True,
        loss: str | Callable[[Any], Any] | None = None,
        params: str | Sequence[str] | None = None,
        **facts: Any,
    ) -> "Task":
        """A task that is a training step of your own, as it is: `jr.check(jr.Task.from_step(step, state, batches))`.

        How the step is called is found out by calling it once, on copies: state, batch and perhaps a key in any order,
        whole or in pieces (`step(params, opt_state, x, y, key)`), of jax.jit, nnx.jit, eqx.filter_jit, pmap, or not
        compiled at all. It gives the new state back beside its metrics, or changes Flax NNX objects in place. What was
        guessed stands in the notes of the report.

        What a step alone does not tell is skipped with a word on what enables it:
        `.replace(model=..., loss=..., optimizer=..., target=jr.Classes(10))`.

        Args:
            step: the training step.
            state: the first state; a tuple of several arguments where the step takes several.
            batches: a list, an iterator or a loader of batches, or a function `batches(epoch)` that gives one; None for
                a step that makes its own data (reinforcement learning, collocation points).
            key: an example of the key that the step takes, where it takes another than `jax.random.key(0)`.
            take: batches that are taken at most.
            targets: names of the parts of a batch that are targets; None for none; by default the second of two, or
                those that are called label, target or y.
            loss: which of the metrics is the loss, or a function of what the step returns beside the state; by default
                the one that is called loss, or the only number.
            params: paths of the parameters in the state, as "state/params"; guessed by default.
            facts: other fields of Task, as target=, test= or name=.

        Raises:
            TypeError: the step cannot be called on this state and batch in any usual way; says what was tried.
            ValueError: there is no batch, or a name that is given is not there.
        """
        bare = bare_step(step, state, batches, key=key, take=take, targets=targets, loss=loss, params=params)
        given = {"train": bare.batches.examples, "batch_size": bare.batches.size, "name": bare.name, "loop": bare.loop}
        return cls(**{**given, **facts})

    def __post_init__(self) -> None:
        """Take the transformation out of an `nnx.Optimizer`, which holds one beside its state."""
        held = getattr(self.optimizer, "tx", None)
        if held is not None and all(hasattr(held, name) for name in ("init", "update")):
            object.__setattr__(self, "optimizer", held)

    def replace(self, **changes: Any) -> "Task":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def has_model(self) -> bool:
        """Whether a model was given."""
        return self.model is not NO_MODEL

    @property
    def has_apply(self) -> bool:
        """Whether the model gives outputs: an objective may do with its parameters."""
        return self.has_model and not isinstance(self.model.apply, Absent)

    @property
    def has_costs(self) -> bool:
        """Whether it is known what a batch costs: parameters, and a loss or an objective."""
        return self.has_model and (self.objective is not None or (self.has_loss and self.has_apply))

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
