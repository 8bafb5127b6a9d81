"""Fields of a task that are of the wrong kind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrecipe.inputs import INPUT_KINDS
from jaxrecipe.parts import Loop, Model
from jaxrecipe.precision.loss_scale import LossScale
from jaxrecipe.precision.policy import parse_policy
from jaxrecipe.targets import Classes, MultiLabel, Tokens, is_target
from jaxrecipe.task import Task
from jaxrecipe.validate.problem import Problem, kind_of


class Field(NamedTuple):
    """What a field must be."""

    name: str
    holds: Callable[[Any], bool]
    wanted: str
    fix: str


def is_function(value: Any) -> bool:
    """Whether a value can be called and is no class."""
    return callable(value) and not isinstance(value, type)


def _is_model(value: Any) -> bool:
    return isinstance(value, Model) and is_function(value.init) and is_function(value.apply)


def _is_optimizer(value: Any) -> bool:
    return not isinstance(value, type) and all(is_function(getattr(value, name, None)) for name in ("init", "update"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_loop(value: Any) -> bool:
    needed = ("init", "step", "variables")
    maybe = ("evaluate", "predict", "save", "restore", "batches")
    return isinstance(value, Loop) and all(
        is_function(getattr(value, name)) or (name in maybe and getattr(value, name) is None)
        for name in (*needed, *maybe)
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_kind(value: Any) -> bool:
    return isinstance(value, str) and value in INPUT_KINDS


def _many(value: Any, one: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(one, value))


FIELDS = (
    Field(
        "model",
        _is_model,
        "a Model with two functions",
        "Make one with jr.linen(module), jr.nnx(module), jr.equinox(module) or jr.Model(init, apply).",
    ),
    Field(
        "loss",
        is_function,
        "a function loss(outputs, targets) -> [batch]",
        "Pass the function itself, neither a class nor what calling it gave.",
    ),
    Field(
        "objective",
        lambda value: value is None or is_function(value),
        "a function objective(params, model_state, inputs, targets, *, train, key) -> jr.Costs, or None",
        "Pass the function itself.",
    ),
    Field(
        "optimizer",
        _is_optimizer,
        "an optax gradient transformation",
        "Pass what calling it gives: optax.adam(1e-3), not optax.adam.",
    ),
    Field(
        "inputs",
        lambda value: (
            value is None or _is_kind(value) or (isinstance(value, Mapping) and all(map(_is_kind, value.values())))
        ),
        f"one of {', '.join(map(repr, INPUT_KINDS))}, a mapping from paths of inputs to these, or None",
        'Say what a single input is, as inputs="image", or what each of several is, as inputs={"words": "tokens"}.',
    ),
    Field("batch_size", _is_count, "an int of 1 or more", "Give the number of examples of a training step."),
    Field(
        "prepare",
        lambda value: value is None or is_function(value),
        "a function prepare(inputs, targets) -> (inputs, targets), or None",
        "Pass the function itself.",
    ),
    Field(
        "augment",
        lambda value: value is None or is_function(value),
        "a function augment(key, inputs, targets) -> (inputs, targets), or None",
        "Pass the function itself.",
    ),
    Field(
        "metrics",
        lambda value: value is None or (isinstance(value, Mapping) and all(map(is_function, value.values()))),
        "a mapping from names to functions metric(outputs, targets) -> [batch], or None",
        'Write metrics={"accuracy": my_metric}.',
    ),
    Field(
        "loss_scale",
        lambda value: isinstance(value, LossScale),
        "a LossScale",
        "Make one with jr.dynamic_loss_scale(), jr.static_loss_scale(128.0) or jr.no_loss_scale().",
    ),
    Field(
        "loop",
        lambda value: value is None or _is_loop(value),
        "a Loop of functions, or None",
        "Write jr.Loop(init=..., step=..., variables=...).",
    ),
    Field(
        "frozen",
        lambda value: _many(value, lambda one: isinstance(one, str)),
        "a sequence of patterns of parameter paths",
        'Write frozen=("backbone/*",), with the comma.',
    ),
    Field(
        "steps",
        lambda value: value is None or _is_count(value),
        "an int of 1 or more, or None",
        "Give the training steps of the whole run: epochs times steps an epoch.",
    ),
    Field("mixes_examples", lambda value: isinstance(value, bool), "True or False", "Give a bool."),
    Field("causal", lambda value: isinstance(value, bool), "True or False", "Give a bool."),
    Field(
        "capacities",
        lambda value: _many(value, _is_model),
        "a sequence of Models, smallest first",
        "Make each with jr.linen(module), jr.nnx(module), jr.equinox(module) or jr.Model(init, apply).",
    ),
    Field(
        "human",
        lambda value: value is None or _is_share(value),
        "an accuracy between 0 and 1, or None",
        "Divide per cent by 100.",
    ),
    Field("name", lambda value: isinstance(value, str), "a string", "Give a name for the reports."),
)


def find(task: Task) -> Iterator[Problem]:
    """Every field that is of the wrong kind; train and test are looked at elsewhere."""
    for field in FIELDS:
        value = getattr(task, field.name)
        if not field.holds(value):
            yield Problem(where=f"task.{field.name}", got=_described(value), wanted=field.wanted, fix=field.fix)
    yield from _missing_parts(task)
    yield from _problems_of_target("task.target", task.target)
    try:
        parse_policy(task.policy)
    except (ValueError, TypeError, AttributeError) as error:
        yield Problem(
            where="task.policy",
            got=f"{kind_of(task.policy)} ({error})",
            wanted="a Policy or the name of one",
            fix='Use "float32", "bfloat16", "float16" or jr.Policy(...).',
        )


def _missing_parts(task: Task) -> Iterator[Problem]:
    """Parts without which nothing can be trained, where there is no loop that trains."""
    if task.objective is not None and task.has_loss:
        yield Problem(
            where="task.objective",
            got="an objective and a loss",
            wanted="one of the two",
            fix="A loss of outputs and targets is the short form of an objective: leave out what is not trained.",
        )
    if task.objective is None and task.has_model and not task.has_apply:
        yield Problem(
            where="task.model",
            got="a model without apply",
            wanted="a Model with two functions",
            fix="Give jr.Model(init, apply): only an objective of your own, Task(objective=...), may do without.",
        )
    if task.loop is not None:
        return
    has_costs = task.has_loss or task.objective is not None
    given = {"model": task.has_model, "loss": has_costs, "optimizer": task.has_optimizer}
    for field in FIELDS:
        if not given.get(field.name, True):
            fix = f"{field.fix} A training step of your own needs none: jr.Task.from_step(step, state, batches)."
            yield Problem(where=f"task.{field.name}", got="nothing", wanted=field.wanted, fix=fix)


def _described(value: Any) -> str:
    """A wrong value in words; of a structure of functions or models, what is in it."""
    if isinstance(value, Model | Loop):
        parts = {name: part for name, part in vars(value).items() if part is not None and name != "name"}
        return f"a {type(value).__name__} with {', '.join(f'{name}: {kind_of(part)}' for name, part in parts.items())}"
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(f'{name}: {kind_of(part)}' for name, part in value.items()) or 'nothing'}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return f"a {type(value).__name__} of {', '.join(map(kind_of, value)) or 'nothing'}"
    return kind_of(value)


def _problems_of_target(where: str, target: Any) -> Iterator[Problem]:
    """Targets that are none, and classes or tokens of an impossible number."""
    if isinstance(target, Mapping) and target:
        for head, inner in target.items():
            yield from _problems_of_target(f"{where}[{head!r}]", inner)
        return
    if not is_target(target):
        yield Problem(
            where=where,
            got=kind_of(target),
            wanted="a target such as jr.Classes(10), or a mapping of targets",
            fix="Declare what is predicted: jr.Classes(n), jr.Binary(), jr.MultiLabel(n), jr.Values(), jr.Tokens(n).",
        )
        return
    sizes = {Classes: ("n", 2), MultiLabel: ("n", 1), Tokens: ("vocabulary", 2)}
    name, least = sizes.get(type(target), ("", 0))
    count = getattr(target, name, None)
    if name and not (isinstance(count, int) and _is_count(count) and count >= least):
        yield Problem(
            where=where,
            got=f"{type(target).__name__}({name}={kind_of(count)})",
            wanted=f"{name} to be an int of {least} or more",
            fix="Give the number of classes; for one logit that says yes or no use jr.Binary().",
        )
