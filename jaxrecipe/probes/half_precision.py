"""What the checks of half precision share: the format a set-up computes in, and its gradients beside those of
float32.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.objective import mean_cost, objective_of
from jaxrecipe.precision import loss_scale as scaling
from jaxrecipe.precision.activations import activation_shapes, watched
from jaxrecipe.precision.policy import Policy
from jaxrecipe.setup import Setup

PyTree = Any
Loss = Callable[..., Float[Array, ""]]
HALF = ("float16", "bfloat16")
_PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclass(frozen=True)
class HalfFormat:
    """A half-precision format and where it is used.

    Attributes:
        dtype: "float16" or "bfloat16".
        where: "policy" (the task's), "parameters" (kept in it), "model" (its modules fix it) or "step" (the user's
            own).
    """

    dtype: str
    where: str


def half_format(setup: Setup) -> HalfFormat | None:
    """The half-precision format that the set-up computes in, or None; float16 first where both occur. Traces, compiles
    nothing.
    """
    policy = setup.task.precision
    places = {
        "policy": [policy.compute_dtype, policy.output_dtype],
        "parameters": [leaf.dtype for leaf in jax.tree.leaves(setup.params) if trees.is_floating(leaf)],
    }
    for where, dtypes in places.items():
        if found := _half(dtype.name for dtype in dtypes):
            return HalfFormat(found, where)
    if found := half_of(jax.make_jaxpr(mean_loss(setup, policy))(*arguments(setup, setup.key))):
        return HalfFormat(found, "model")
    step: Any = setup.loop.step
    # Only a step that is jitted may be traced without a word: others may do anything when they are called.
    if not hasattr(step, "trace"):
        return None
    found = half_of(step.trace(setup.fresh_state(), *setup.batch, setup.key).jaxpr)
    return HalfFormat(found, "step") if found else None


def _half(names: Iterable[str]) -> str | None:
    seen = set(names)
    return next((name for name in HALF if name in seen), None)


def half_of(program: Any) -> str | None:
    """The half-precision format in which a traced program multiplies matrices, or None."""
    return _half(_products_of(program))


def _products_of(program: Any) -> Iterator[str]:
    """Dtypes of what every matrix product and convolution of a program takes, those inside its inner programs
    included.
    """
    for equation in getattr(program, "jaxpr", program).eqns:
        if equation.primitive.name in _PRODUCTS:
            yield from (atom.aval.dtype.name for atom in equation.invars)
        for parameter in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(parameter):
                yield from _products_of(parameter)


def _is_program(thing: Any) -> bool:
    return isinstance(thing, core.Jaxpr | core.ClosedJaxpr)


def arguments(setup: Setup, key: PRNGKeyArray) -> tuple[Any, ...]:
    """What `mean_loss` takes, at the initial parameters and the first batch."""
    return (setup.params, setup.model_state, *setup.batch, key)


def mean_loss(setup: Setup, policy: Policy) -> Loss:
    """`loss(params, model_state, inputs, targets, key) -> scalar` in training mode, as the training step takes it."""
    objective = objective_of(setup.task, policy)

    def loss(params: PyTree, model_state: PyTree, inputs: Any, targets: Any, key: PRNGKeyArray) -> Float[Array, ""]:
        return mean_cost(objective(params, model_state, inputs, targets, train=True, key=key))

    return loss


def float32_loss(setup: Setup) -> Loss:
    """The same in strict float32, whatever dtype the parameters are kept in. Modules that fix another dtype keep it."""
    loss = mean_loss(setup, Policy(matmul="highest"))
    return lambda *args: loss(*trees.widen(args))


@dataclass(frozen=True)
class Gradients:
    """The gradients of one batch, in the precision of the set-up and in float32; each compiles on its first call.

    Attributes:
        low: `low(params, scale)`, of the loss times the scale, divided by it in float32, as a training step has them.
        full: `full(params, round_to)`, in float32, with parameters and inputs rounded to a format and back if one is
            named.
    """

    low: Callable[[PyTree, float], PyTree]
    full: Callable[[PyTree, str | None], PyTree]


def gradients(setup: Setup, key: PRNGKeyArray) -> Gradients:
    """See the class."""
    _, *rest = arguments(setup, key)
    low_loss, full_loss = mean_loss(setup, setup.task.precision), float32_loss(setup)

    @jax.jit
    def low(params: PyTree, scale: scaling.LossScale, *rest: Any) -> PyTree:
        grads = jax.grad(lambda params: scaling.scale_loss(scale, low_loss(params, *rest)))(params)
        return scaling.unscale(scale, grads)

    full = jax.jit(jax.grad(full_loss))

    def at_full(params: PyTree, round_to: str | None) -> PyTree:
        model_state, inputs, *others = rest
        if round_to is not None:
            params, inputs = rounded((params, inputs), round_to)
        return full(trees.widen(params), model_state, inputs, *others)

    return Gradients(low=lambda params, scale: low(params, scaling.static_loss_scale(scale), *rest), full=at_full)


@partial(jax.jit, static_argnames="dtype")
def rounded(tree: PyTree, dtype: str) -> PyTree:
    """The numbers that a format has for those of a tree, back in the dtypes that they were in."""
    narrow = trees.cast_floating(tree, dtype)
    return jax.tree.map(lambda old, new: new.astype(old.dtype) if trees.is_floating(old) else old, tree, narrow)


def as_numpy(tree: PyTree) -> dict[str, Float[np.ndarray, "..."]]:
    """Floating leaves by path, in float64."""
    return {
        path: np.asarray(leaf).astype(np.float64)
        for path, leaf in trees.named_leaves(tree).items()
        if trees.is_floating(leaf)
    }


def matters(grad: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Where a layer's gradient has at least a hundredth of its root mean square, zeros not counted: what an optimizer
    learns from.
    """
    used = grad[grad != 0]
    if not used.size:
        return np.zeros(grad.shape, bool)
    largest = np.abs(used).max()
    typical = largest * np.sqrt(np.mean(np.square(used / largest)))  # the squares of the smallest would underflow
    return np.abs(grad) >= 0.01 * typical


def undetermined(grads: Gradients, params: PyTree, full: PyTree, key: PRNGKeyArray, *, most: float = 0.05) -> set[str]:
    """Layers whose float32 gradient is rounding noise itself, such as that of a bias before a BatchNorm, or exactly
    zero.

    Told by moving the parameters by about ten times float32's precision: a gradient that changes by more than `most` of
    its norm cannot be compared with anything.
    """
    here, there = as_numpy(full), as_numpy(grads.full(_nudged(trees.widen(params), key), None))
    norms = {path: float(np.linalg.norm(leaf)) for path, leaf in here.items()}
    return {
        path for path, leaf in here.items() if not float(np.linalg.norm(there[path] - leaf)) <= most * norms[path] > 0
    }


@jax.jit
def _nudged(params: PyTree, key: PRNGKeyArray) -> PyTree:
    """Floating numbers moved by a millionth at most."""
    leaves, form = jax.tree.flatten(params)

    def nudged(leaf: Any, key: PRNGKeyArray) -> Any:
        if not trees.is_floating(leaf):
            return leaf
        return leaf * (1 + jax.random.uniform(key, leaf.shape, leaf.dtype, -(2.0**-20), 2.0**-20))

    return jax.tree.unflatten(
        form, [nudged(*pair) for pair in zip(leaves, jax.random.split(key, len(leaves)), strict=True)]
    )


@dataclass(frozen=True)
class Scale:
    """The loss scale in force at the first step.

    Attributes:
        kind: "none", "static", "dynamic", or "unknown" where a loop of the user's own shows none.
        value: the scale, 1 without one.
        floor: below which a dynamic one never goes, as far as that is known.
    """

    kind: str
    value: float
    floor: float = 0.0


def scale_in_force(setup: Setup) -> Scale:
    """The task's loss scale, or what the state of the loop shows of one."""
    given = setup.task.loss_scale
    if given.kind != "none":
        return Scale(given.kind, float(given.scale), float(given.min_scale))
    state = setup.fresh_state()
    if any(map(_is_loss_scale, jax.tree.leaves(state, is_leaf=_is_loss_scale))):
        return Scale("none", 1.0)  # the task's own, which is none
    shown = shown_scale(state)
    return Scale("unknown", 1.0) if shown is None else Scale("dynamic", shown)


def _is_loss_scale(node: Any) -> bool:
    return isinstance(node, scaling.LossScale)


_OWNERS = ("loss_scale", "loss_scaling", "dynamic_scale", "grad_scale", "scaler", "scaling")
_NUMBERS = ("scale", "loss_scale", "loss_scaling", "0", "")


def shown_scale(state: PyTree) -> float | None:
    """The current loss scale in a state, found by name: `loss_scale`, `dynamic_scale/scale`, `scaling/loss_scaling`,
    ..., or None.
    """
    for path, leaf in trees.named_leaves(state).items():
        *_, owner, number = ["", "", *path.lower().split("/")]
        named = (owner in _OWNERS and number in _NUMBERS) or number in _OWNERS
        if named and trees.is_floating(leaf) and np.shape(leaf) == ():
            return float(leaf)
        if named and isinstance(leaf, float):
            return leaf
    return None


def settled(grads: Gradients, params: PyTree, scale: Scale) -> tuple[float, PyTree]:
    """The scale at which the first step goes through, and its gradients: a dynamic scale may give way, others may not.

    Where none helps, the gradients at the last one tried.
    """
    value = scale.value
    found = grads.low(params, value)
    while scale.kind == "dynamic" and not bool(trees.all_finite(found)) and value / 2 >= max(scale.floor, 2.0**-24):
        value /= 2
        found = grads.low(params, value)
    return value, found


@dataclass(frozen=True)
class Broken:
    """Where a forward pass stops being finite: the first matrix product or convolution, or "the loss"; NaN or
    infinite.
    """

    where: str
    nan: bool


def first_broken(setup: Setup, key: PRNGKeyArray) -> Broken | None:
    """Where the forward pass in the set-up's precision is not finite for the first time, or None."""
    low = mean_loss(setup, setup.task.precision)

    @jax.jit
    def look(*args: Any) -> dict[str, Array]:
        seen: dict[str, Array] = {}

        def watch(name: str, value: Array) -> Array:
            seen[name] = _finiteness(value)
            return value

        loss = watched(low, *args)(watch)
        return {**seen, "the loss": _finiteness(loss)}

    found = look(*arguments(setup, key))
    # A jitted function gives back a dictionary in the order of its names.
    order = [*activation_shapes(watched(low, *arguments(setup, key))), "the loss"]
    return next((Broken(name, not bool(found[name][1])) for name in order if not found[name].all()), None)


def _finiteness(value: Array) -> Bool[Array, "2"]:
    """Whether nothing is infinite, and whether nothing is NaN unless something is infinite as well."""
    infinite = jnp.isinf(value).any()
    return jnp.stack([~infinite, infinite | ~jnp.isnan(value).any()])


def optimizer_step(setup: Setup, params: PyTree, grads: PyTree, state: PyTree | None = None) -> tuple[PyTree, PyTree]:
    """What the task's optimizer makes of gradients in float32, and its state; its first step when none is given."""
    wide, grads = trees.widen(params), trees.widen(grads)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
        return setup.task.optimizer.update(grads, setup.task.optimizer.init(wide) if state is None else state, wide)
