"""The parts of a training set-up as values: Model, Loop, the forms of functions, and what stands where a part was not
given.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

PyTree = Any
Inputs = PyTree
"""A pytree of arrays with a leading batch axis."""
Targets = PyTree
"""A pytree of arrays with the same leading batch axis."""
LossFn = Callable[[PyTree, Targets], Float[Array, "batch"]]
"""`loss(outputs, targets) -> [batch]`: one number an example. The library takes the mean, in float32."""
Objective = Callable[..., "Costs"]
"""`objective(params, model_state, inputs, targets, *, train, key) -> Costs`: what one batch costs."""
Prepare = Callable[[Inputs, Targets], tuple[Inputs, Targets]]
Augment = Callable[[PRNGKeyArray, Inputs, Targets], tuple[Inputs, Targets]]


class MissingPartError(RuntimeError):
    """Something needs a part of the task that was not given; the message says which, and how to give it."""


@dataclass(frozen=True)
class Absent:
    """What stands in a task where a part was not given: a function that says so when it is called.

    Attributes:
        part: what is missing, in words.
        fix: how to give it.
    """

    part: str
    fix: str

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise MissingPartError, whatever it is given."""
        raise MissingPartError(f"The task has no {self.part}. {self.fix}")


@dataclass(frozen=True)
class Model:
    """A model as two pure functions.

    Attributes:
        init: `init(key, inputs) -> (params, state)`. `params` is what the optimizer trains; `state` is what a forward
            pass may change (batch statistics), `{}` or `()` when there is none.
        apply: `apply(params, state, inputs, *, train, key) -> (outputs, state)`. `train` is a Python bool;
            `key` feeds dropout and the like, and may be None when `train` is False. An objective of one's own may do
            without; checks that need outputs are then skipped.
        name: what reports call it.
    """

    init: Callable[[PRNGKeyArray, Inputs], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[PyTree, PyTree]] = Absent(
        "apply", "Give jr.Model(init, apply): apply(params, state, inputs, *, train, key) returns (outputs, state)."
    )
    name: str = "model"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one batch costs: what an objective returns.

    The cost that is trained is `sum(weights * losses) / sum(weights) + sum(extra)`, in float32: the weighted mean of
    the examples, and what belongs to none of them.

    Attributes:
        losses: floating `[batch]`, what each example costs, not yet multiplied by its weight. Where an example is made
            of several things that count (tokens, labelled pixels), the mean over those.
        weights: floating `[batch]`, how much each example counts, 0 or more: the number of its tokens, the weight of
            its class. None where all count alike. An example of weight 0 counts nothing, even where its loss is NaN. A
            weight that is not to be divided by (importance sampling) belongs into `losses`.
        extra: what belongs to no example (a penalty of the weights), a scalar or scalars by name; None for nothing.
        outputs: what the metrics are given, or None.
        model_state: the model's state after the pass; None where the model has none.
        aux: numbers to look at beside the loss, scalars by name; a training step reports them.
    """

    losses: Any
    weights: Any = None
    extra: Any = None
    outputs: PyTree = None
    model_state: PyTree = None
    aux: Any = None


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
        with_params: `with_params(state, params) -> state`, the same state with other parameters in the form in which
            `variables` gives them, or None. Lets a check scale what a step does.
        facts: what is known of a bare step (`Task.from_step`, `jaxrecipe watch`), or None.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    step: Callable[[PyTree, Inputs, Targets, PRNGKeyArray], tuple[PyTree, Mapping[str, Any]]]
    variables: Callable[[PyTree], tuple[PyTree, PyTree]]
    evaluate: Callable[[PyTree, Inputs, Targets, int], Mapping[str, Any]] | None = None
    predict: Callable[[PyTree, Inputs], PyTree] | None = None
    save: Callable[[PyTree, str], None] | None = None
    restore: Callable[[str, PyTree], PyTree] | None = None
    batches: Callable[[int], Iterable[tuple[Inputs, Targets]]] | None = None
    with_params: Callable[[PyTree, PyTree], PyTree] | None = None
    facts: "StepFacts | None" = None


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What is known of a bare step beside what it computes.

    Attributes:
        unreturned: pieces of the state that it is given and neither changes nor gives back.
        takes_key: whether it is given a key.
        keys: the keys that it was seen to be called with, in order; empty where it was not watched.
        whole_batches: whether a batch counts as one example, because its arrays have no common axis of examples.
        no_data: whether it is given no batch, because it makes its own data; the examples of the task only stand in.
        notes: what was guessed or left out; stands in the report.
    """

    unreturned: tuple[str, ...] = ()
    takes_key: bool = False
    keys: tuple[Any, ...] = ()
    whole_batches: bool = False
    no_data: bool = False
    notes: tuple[str, ...] = ()


_NO_MODEL = Absent("model", "Give Task(model=jr.linen(module)), jr.nnx, jr.equinox or jr.Model(init, apply).")
NO_MODEL = Model(init=_NO_MODEL, apply=_NO_MODEL, name="no model")
NO_LOSS = Absent("loss", "Give Task(loss=...): loss(outputs, targets) returns one number an example.")
_NO_OPTIMIZER = Absent("optimizer", "Give Task(optimizer=...), the optax transformation that your step uses.")
NO_OPTIMIZER = optax.GradientTransformation(init=_NO_OPTIMIZER, update=_NO_OPTIMIZER)


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
