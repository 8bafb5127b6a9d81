"""What stands between the layers of a model, read off its traced program.

Says what each kernel is given, and what was done to that before. Nothing is computed. A kernel is a
parameter of two axes or more that data are multiplied with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from jaxrecipe import trees
from jaxrecipe.setup import Setup

STRAIGHT = frozenset(
    [
        "add",
        "add_any",
        "sub",
        "neg",
        "reshape",
        "transpose",
        "broadcast_in_dim",
        "squeeze",
        "expand_dims",
        "convert_element_type",
        "slice",
        "dynamic_slice",
        "concatenate",
        "pad",
        "reduce_sum",
        "cumsum",
        "copy",
        "copy_p",
        "stop_gradient",
        "rev",
        "mul",
        "div",
        "reduce_window_sum",
        "split",
        "reduce_precision",
    ]
)
"""Operations that keep a value linear in its data, the other operand being constant where there are two."""
ROUNDING = 1e-6
"""Outputs that differ by less than this share of their size are the same: about the rounding of float32."""
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Under which parameter an operation keeps the program that it calls."""


class Size(NamedTuple):
    """Inputs and outputs of a kernel."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class Past:
    """What happened to a value since the last kernel, and that kernel's size.

    Attributes:
        what: "linear" (nothing), "sigmoid", "softmax", "exp", or "other".
        size: None where the kernel is no matrix, or there was none.
    """

    what: str
    size: Size | None = None


@dataclass(frozen=True)
class Joint:
    """Two kernels in a row and what stands between them; the first is None where it is not known, or no matrix."""

    first: Size | None
    between: str
    second: Size

    @property
    def pointless(self) -> bool:
        """Two matrices with nothing between them and a middle wider than both ends: one matrix could do the same."""
        wide = self.first is not None and self.first.outputs > max(self.first.inputs, self.second.outputs)
        return self.between == "linear" and wide


def joints(setup: Setup) -> list[Joint]:
    """Every kernel that is given something that came out of another layer, in evaluation mode."""
    inputs, _ = setup.batch
    params, state = setup.variables

    def forward(params: Any, inputs: Any) -> Any:
        return setup.forward(params, state, inputs, train=False, key=None)[0]

    traced = jax.make_jaxpr(forward)(params, inputs)
    pasts: list[Past | None] = [None] * len(jax.tree.leaves(params)) + [Past("other")] * len(jax.tree.leaves(inputs))
    found: list[Joint] = []
    _walk(traced.jaxpr, pasts, found)
    return found


def opens_with_raised_biases(setup: Setup) -> bool:
    """Whether the outputs of the untrained model differ between the examples of the batch once all biases are raised.

    Units that never opened open then; an input that reaches no unit still moves nothing. Computed once for all checks.
    """

    def differ() -> bool:
        params, state = setup.variables
        raised = jax.tree.map(
            lambda leaf: _raised(leaf) if trees.is_floating(leaf) and leaf.ndim == 1 else leaf, params
        )
        outputs, _ = setup.forward(raised, state, setup.batch[0], train=False, key=setup.key)
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]
        return any(np.ptp(leaf, axis=0).max(initial=0.0) > ROUNDING * np.abs(leaf).max(initial=0.0) for leaf in leaves)

    return setup.memo((opens_with_raised_biases,), differ)


def _raised(bias: Any) -> Any:
    """A bias that opens the unit behind it."""
    return jnp.asarray(np.abs(np.asarray(bias, np.float64)) + 1.0, bias.dtype)


def _walk(jaxpr: Any, given: Sequence[Past | None], found: list[Joint]) -> list[Past | None]:
    """The pasts of a program's results from those of its arguments; None is constant, that is parameters alone."""
    pasts: dict[Any, Past | None] = dict(zip(jaxpr.invars, given, strict=True))

    def past(atom: Any) -> Past | None:
        return None if isinstance(atom, jex.Literal) else pasts.get(atom)

    for eqn in jaxpr.eqns:
        operands = [past(atom) for atom in eqn.invars]
        inner = next((eqn.params[name] for name in CALLS if name in eqn.params), None)
        if not any(operands):
            results: list[Past | None] = [None] * len(eqn.outvars)
        elif inner is not None and eqn.primitive.name != "scan":
            inner = getattr(inner, "jaxpr", inner)
            same = len(inner.invars) == len(operands)
            results = _walk(inner, operands, found) if same else [Past("other")] * len(eqn.outvars)
        else:
            results = [_after(eqn, operands, found)] * len(eqn.outvars)
        pasts.update(zip(eqn.outvars, results, strict=True))
    return [past(atom) for atom in jaxpr.outvars]


def _after(eqn: Any, operands: list[Past | None], found: list[Joint]) -> Past:
    """What an operation on data leaves behind."""
    name, data = eqn.primitive.name, [one for one in operands if one is not None]
    if name in ("dot_general", "conv_general_dilated"):
        if len(data) > 1:
            return Past("other")
        second = _size(eqn, operands)
        if data[0].what in ("linear", "sigmoid", "softmax"):
            found.append(Joint(data[0].size, data[0].what, second))
        return Past("linear", second if name == "dot_general" else None)
    if name == "logistic":
        return Past("sigmoid", data[0].size)
    if name == "exp":
        return Past("exp", data[0].size)
    if name == "div" and [one.what for one in data] == ["exp", "exp"]:
        return Past("softmax", data[0].size)
    if name not in STRAIGHT or (name in ("mul", "div") and (len(data) > 1 or (name == "div" and operands[0] is None))):
        return Past("other")
    return data[0] if all(one == data[0] for one in data) else Past("other")


def _size(eqn: Any, operands: list[Past | None]) -> Size:
    """Inputs and outputs of the constant operand of a product."""
    which = operands.index(None)
    shape = eqn.invars[which].aval.shape
    if eqn.primitive.name != "dot_general":
        outputs = shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return Size(int(np.prod(shape)) // outputs, outputs)
    contracted = eqn.params["dimension_numbers"][0][which]
    inputs = int(np.prod([shape[axis] for axis in contracted]))
    return Size(inputs, int(np.prod(shape)) // max(inputs, 1))
