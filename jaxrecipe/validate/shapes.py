"""What is wrong with the functions of a task, found by tracing them with shapes alone: nothing is computed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipe import trees
from jaxrecipe.parts import Model
from jaxrecipe.precision.policy import apply_policy
from jaxrecipe.task import Task
from jaxrecipe.validate.problem import (
    Problem,
    PyTree,
    described,
    differences,
    kind_of,
    listed,
    message_of,
    nothing_returned,
    shape_of,
)

TRACEABLE = "It is traced by JAX: use jax.numpy on arrays, and let Python decide only by `train`, shapes and constants."


@dataclass
class Traced:
    """Shapes of all that a training step handles; what could not be traced stays None.

    Attributes:
        size: examples in the batch.
        batch: prepared `(inputs, targets)`.
        augmented: the same after augmentation.
        params, state: the model's variables.
        trained, evaluated: outputs in training and in evaluation.
        problems: what was wrong on the way.
    """

    size: int
    batch: Any = None
    augmented: Any = None
    params: Any = None
    state: Any = None
    trained: Any = None
    evaluated: Any = None
    problems: list[Problem] = field(default_factory=list)

    def attempt(self, where: str, function: Callable[..., Any], *arguments: Any, wanted: str, fix: str) -> Any:
        """Shapes of what a function gives; None, and a problem more, when it raises or gives nothing."""
        try:
            given = strong(jax.eval_shape(function, *arguments))
        except Exception as error:
            self.problems.append(Problem(where=where, got=message_of(error), wanted=wanted, fix=fix))
            return None
        if given is None:
            self.problems.append(nothing_returned(where, wanted))
        return given

    def expect(
        self, right: bool, where: str, *, got: str, wanted: str, fix: str, code: str = "", severity: Any = "error"
    ) -> bool:
        """Note a problem unless it is right; whether it is."""
        if not right:
            self.problems.append(Problem(where=where, got=got, wanted=wanted, fix=fix, code=code, severity=severity))
        return right


def strong(tree: PyTree) -> PyTree:
    """Shapes and dtypes without weak types, as training makes them."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def trace(task: Task, raw: tuple[PyTree, PyTree], size: int) -> Traced:
    """Follow a batch of `size` raw examples through prepare, augment and the model."""
    traced = Traced(size)
    traced.batch = _prepared(traced, task, raw)
    if traced.batch is None:
        return traced
    traced.augmented = _augmented(traced, task)
    if not task.has_model:
        return traced
    variables = _initial(traced, task.model, "task.model.init")
    if variables is None:
        return traced
    traced.params, traced.state = variables
    if not task.has_apply:
        return traced
    apply = apply_policy(task.model.apply, task.precision)
    inputs = (traced.augmented or traced.batch)[0]
    traced.trained = _applied(traced, apply, variables, inputs, train=True)
    traced.evaluated = _applied(traced, apply, variables, traced.batch[0], train=False)
    return traced


def _prepared(traced: Traced, task: Task, raw: tuple[PyTree, PyTree]) -> Any:
    if task.prepare is None:
        return raw
    wanted = "a pair (inputs, targets) of arrays"
    batch = traced.attempt(
        "task.prepare", task.prepare, *raw, wanted=wanted, fix=f"It got {described(raw)}. {TRACEABLE}"
    )
    if batch is None or not _is_pair(traced, "task.prepare", batch):
        return None
    return batch if _keeps_size(traced, "task.prepare", batch) else None


def _augmented(traced: Traced, task: Task) -> Any:
    """The augmented batch, or None when there is no augmentation or it is no good."""
    if task.augment is None:
        return None
    where, wanted = "task.augment", "a pair (inputs, targets) of the same form as the prepared batch"
    fix = f"It got {described(traced.batch)}. {TRACEABLE}"
    after = traced.attempt(where, task.augment, jax.random.key(0), *traced.batch, wanted=wanted, fix=fix)
    if after is None or not _is_pair(traced, where, after) or not _keeps_size(traced, where, after):
        return None
    lines = differences(_sides(traced.batch), _sides(after))
    same_structure = jax.tree.structure(after) == jax.tree.structure(traced.batch)
    fix = "Whatever changes the form of the data belongs into task.prepare, which evaluation goes through as well."
    severity = "warning" if same_structure else "error"
    traced.expect(
        not lines, where, got=f"a batch of another form: {listed(lines)}", wanted=wanted, fix=fix, severity=severity
    )
    return after if same_structure else None


def _sides(batch: tuple[PyTree, PyTree]) -> dict[str, PyTree]:
    return dict(zip(("inputs", "targets"), batch, strict=True))


def _is_pair(traced: Traced, where: str, given: Any) -> bool:
    got = f"{kind_of(given)}: {described(given)}"
    return traced.expect(
        isinstance(given, tuple | list) and len(given) == 2,
        where,
        got=got,
        wanted="a pair (inputs, targets)",
        fix="End it with `return inputs, targets`.",
    )


def _keeps_size(traced: Traced, where: str, batch: Any) -> bool:
    wrong = [
        f"{path}: {shape_of(leaf)}"
        for path, leaf in trees.named_leaves(_sides(batch)).items()
        if leaf.shape[:1] != (traced.size,)
    ]
    return traced.expect(
        not wrong,
        where,
        got=f"{listed(wrong)} from a batch of {traced.size}",
        wanted=f"{traced.size} as the leading size of every array",
        fix="Keep one entry an example; views of one example go into a further axis.",
    )


def _initial(traced: Traced, model: Model, where: str) -> Any:
    """`(params, state)` of a model, or None."""
    inputs = traced.batch[0]
    fix = f"It got inputs {described(inputs)}. {TRACEABLE}{_about_integers(inputs)}"
    wanted = "a pair (params, state)"
    made = traced.attempt(where, model.init, jax.random.key(0), inputs, wanted=wanted, fix=fix)
    if made is None:
        return None
    right = isinstance(made, tuple | list) and len(made) == 2
    fix = "Return `params, {}` when the model has no state."
    if not traced.expect(right, where, got=f"{kind_of(made)}: {described(made)}", wanted=wanted, fix=fix):
        return None
    params = trees.named_leaves(made[0])
    odd = [f"{path}: {shape_of(leaf)}" for path, leaf in params.items() if not trees.is_floating(leaf)]
    fix = "Keep integers, keys and flags in the state, or in the model itself."
    traced.expect(not odd, where, got=f"parameters {listed(odd)}", wanted="floating parameters", fix=fix)
    fix = "What is to be trained must be in `params`, not in `state`."
    traced.expect(bool(params), where, got="no parameters at all", wanted="at least one", fix=fix)
    return made


def _about_integers(inputs: PyTree) -> str:
    """A word on integers that a model may have choked on."""
    raw = [f"{p or 'inputs'}: {shape_of(x)}" for p, x in trees.named_leaves(inputs).items() if not trees.is_inexact(x)]
    scale = "prepare=lambda x, y: (x.astype(jnp.float32) / 255, y)"
    return (
        f" The inputs are integers ({listed(raw)}): if they are measurements, scale them first, as in {scale}."
        if raw
        else ""
    )


def _applied(traced: Traced, apply: Callable[..., Any], variables: Any, inputs: PyTree, *, train: bool) -> Any:
    """Outputs of the model, or None; its state must come back as it went in."""
    where = f"task.model.apply, train={train}"
    key = jax.random.key(0) if train else None
    fix = f"It got inputs {described(inputs)} and {'a key' if train else 'key=None, as evaluation does'}. {TRACEABLE}"

    def run(params: PyTree, state: PyTree, inputs: PyTree) -> Any:
        return apply(params, state, inputs, train=train, key=key)

    fix += _about_integers(inputs)
    given = traced.attempt(where, run, *variables, inputs, wanted="a pair (outputs, state)", fix=fix)
    if given is None:
        return None
    right = isinstance(given, tuple | list) and len(given) == 2
    fix = "Return `outputs, state`, with the state as it came when nothing changes it."
    if not traced.expect(
        right, where, got=f"{kind_of(given)}: {described(given)}", wanted="a pair (outputs, state)", fix=fix
    ):
        return None
    fix = "Return what the network gives: `outputs, state`."
    traced.expect(given[0] is not None, where, got="None for the outputs", wanted="outputs, arrays", fix=fix)
    lines = differences(variables[1], given[1])
    traced.expect(
        not lines,
        where,
        got=f"a state of another form: {listed(lines)}",
        wanted="the structure, shapes and dtypes of the state that it was given",
        fix="A state that grows or changes compiles anew at every step and cannot be saved: make it of its final "
        "form in init.",
    )
    return given[0]


def find_losses(traced: Traced, task: Task) -> None:
    """Check that the loss gives one number an example, in training and in evaluation."""
    if not task.has_loss:
        return
    known = len(traced.problems)
    for outputs, batch in ((traced.evaluated, traced.batch), (traced.trained, traced.augmented or traced.batch)):
        if outputs is None or len(traced.problems) > known:
            continue
        fix = f"It got outputs {described(outputs)} and targets {described(batch[1])}. {TRACEABLE}"
        wanted = f"float32[{traced.size}], one number an example"
        losses = traced.attempt("task.loss", task.loss, outputs, batch[1], wanted=wanted, fix=fix)
        if losses is not None:
            per_example(traced, "task.loss", losses, outputs, batch[1], trained=True)


def find_metrics(traced: Traced, task: Task) -> None:
    """Check that every metric gives one number an example."""
    if traced.evaluated is None:
        return
    targets = traced.batch[1]
    for name, metric in task.all_metrics.items():
        where = f"task.metrics[{name!r}]"
        fix = f"It got outputs {described(traced.evaluated)} and targets {described(targets)}. {TRACEABLE}"
        wanted = f"float32[{traced.size}], one number an example"
        values = traced.attempt(where, metric, traced.evaluated, targets, wanted=wanted, fix=fix)
        if values is not None:
            per_example(traced, where, values, traced.evaluated, targets)


def per_example(
    traced: Traced, where: str, values: Any, outputs: PyTree, targets: PyTree, *, trained: bool = False
) -> None:
    """Note a problem unless `values` are one number an example; floating ones where they are trained."""
    size = traced.size
    single = trees.is_array(values)
    right = single and values.shape == (size,)
    numeric = not right or trees.is_floating(values) or (not trained and not trees.is_inexact(values))
    shapes = f"outputs {described(outputs)} against targets {described(targets)}"
    code = ""
    if not single:
        fix = "Return one array: the sum of the parts, weighted as you want them."
    elif values.shape == ():
        fix = "Drop the mean over the batch, or wrap the function: jr.per_example(loss)."
    elif values.shape[:2] == (size, size):
        code = "loss/broadcast"
        fix = (
            f"Every example meets every other: {shapes} broadcast. Give both one shape, by outputs[:, 0] or "
            "targets[:, None]."
        )
    elif values.shape[0] == size:
        fix = "Take the mean (or the masked mean) over the axes after the first: values.mean(axis=(1, ...))."
    else:
        code = "loss/wrong-axis"
        fix = f"It reduces the axis of the batch and keeps another one: {shapes}. Reduce the axes after the first."
    if not numeric:
        fix = "Return floating numbers: values.astype(jnp.float32)."
    wanted = f"float32[{size}], one number an example"
    traced.expect(right and numeric, where, got=described(values), wanted=wanted, fix=fix, code=code)


def find_fixed_batch(traced: Traced, task: Task, raw: tuple[PyTree, PyTree]) -> None:
    """With a batch of one more, the loss must be one longer; called when nothing else is wrong.

    A loss that keeps the wrong axis passes as long as that axis happens to be as long as the batch.
    """
    more = trace(task, raw, traced.size + 1)
    find_losses(more, task)
    errors = [problem for problem in more.problems if problem.severity == "error"]
    if not errors:
        return
    loss = errors[0].where == "task.loss"
    traced.problems.append(
        Problem(
            where=errors[0].where,
            got=f"{errors[0].got} from a batch of {more.size}, where a batch of {traced.size} goes through",
            wanted="a function for any number of examples" + (f", here {errors[0].wanted}" if loss else ""),
            fix="Take the batch size from the arrays, and reduce no axis of it.",
            code="loss/wrong-axis" if loss else "",
            severity="error" if loss else "warning",
        )
    )


def find_inputs(traced: Traced) -> None:
    """Warn of bytes that reach the model as they are."""
    leaves = trees.named_leaves(traced.batch[0])
    raw = [
        f"{path or 'inputs'}: {shape_of(leaf)}" for path, leaf in leaves.items() if leaf.dtype in (jnp.uint8, jnp.int8)
    ]
    traced.expect(
        not raw,
        "task.prepare",
        got=f"bytes that reach the model unscaled, {listed(raw)}",
        wanted="floating inputs of about zero mean and unit spread, unless the model scales them itself",
        fix="Scale them: prepare=lambda x, y: (x.astype(jnp.float32) / 255, y).",
        severity="warning",
    )
