"""Precision policies: in which dtype parameters are kept, in which a model computes, and what it returns.

A policy casts what goes in and out of a model; nothing inside of it. A module with a `dtype` argument that is None
follows its inputs and parameters, which is what a policy wants; one that has its own dtype keeps that.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees

PyTree = Any
Apply = Callable[..., tuple[PyTree, PyTree]]
"""`apply(params, state, inputs, *, train, key) -> (outputs, state)`."""


@dataclass(frozen=True)
class Policy:
    """Which precision where. Dtypes may be given in any form that `jnp.dtype` takes, and are kept as numpy dtypes.

    Attributes:
        param_dtype: of the stored parameters, which the optimizer updates. Half here loses small updates: 1 + 0.001 is
            1 in bfloat16.
        compute_dtype: to which parameters and floating inputs are cast for the model.
        output_dtype: to which the model's floating outputs are cast, before the loss sees them.
        overrides: `(pattern, dtype)` pairs, first fit first: parameters whose path fits (see `trees.matches`) are cast
            to that dtype instead of `compute_dtype`, as in `(("LayerNorm_*", "float32"), ("head/*", "float32"))`.
        matmul: precision of matrix products and convolutions on float32 numbers, as `jax_default_matmul_precision`:
            "highest" for strict float32, "tensorfloat32"; None leaves what is set for the process.

    Raises:
        ValueError: a dtype is not a real floating one, or `matmul` is unknown; all offenders are named.
    """

    param_dtype: Any = jnp.float32
    compute_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32
    overrides: tuple[tuple[str, Any], ...] = ()
    matmul: str | None = None

    def __post_init__(self) -> None:
        """Bring the dtypes to one form, so that equal policies are equal and hash alike."""
        wrong: list[str] = []
        for name in ("param_dtype", "compute_dtype", "output_dtype"):
            object.__setattr__(self, name, _floating(getattr(self, name), name, wrong))
        pairs = tuple((pattern, _floating(dtype, f"override {pattern!r}", wrong)) for pattern, dtype in self.overrides)
        object.__setattr__(self, "overrides", pairs)
        if self.matmul is not None:
            _check_matmul(self.matmul, wrong)
        if wrong:
            raise ValueError("precision policy: " + "; ".join(wrong))

    @property
    def casts(self) -> bool:
        """Whether anything is cast. A policy of float32 throughout touches nothing, whatever the model's own dtypes
        are.
        """
        float32 = jnp.dtype(jnp.float32)
        return any(
            dtype != float32
            for dtype in (
                self.param_dtype,
                self.compute_dtype,
                self.output_dtype,
                *(wanted for _, wanted in self.overrides),
            )
        )


def _floating(given: Any, what: str, wrong: list[str]) -> Any:
    """The dtype meant, or None with a line in `wrong`."""
    try:
        # numpy reads None as float64, which nobody means here.
        dtype = jnp.dtype("None" if given is None else given)
    except TypeError:
        wrong.append(f"{what} is {given!r}, which is no dtype; wanted float32, bfloat16, float16 or the like")
        return None
    if not jnp.issubdtype(dtype, jnp.floating):
        wrong.append(f"{what} is {dtype.name}; wanted a floating dtype such as float32, bfloat16 or float16")
    return dtype


def _check_matmul(matmul: str, wrong: list[str]) -> None:
    try:
        with jax.default_matmul_precision(matmul):
            pass
    except ValueError as error:
        wrong.append(f"matmul is {matmul!r}: {error}")


_NAMED = {
    "float32": Policy(),
    "strict_float32": Policy(matmul="highest"),
    "tensorfloat32": Policy(matmul="tensorfloat32"),
    "bfloat16": Policy(compute_dtype=jnp.bfloat16),
    "float16": Policy(compute_dtype=jnp.float16),
}
_FIELDS = {
    **dict.fromkeys(("p", "params"), "param_dtype"),
    **dict.fromkeys(("c", "compute"), "compute_dtype"),
    **dict.fromkeys(("o", "output"), "output_dtype"),
}
_DTYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "full": "float32"}


def parse_policy(policy: Policy | str) -> Policy:
    """A policy from its name.

    - "float32": casts nothing, and leaves the precision of matrix products as the process has it.
    - "strict_float32", "tensorfloat32": the same, with the precision of matrix products on accelerators spelled out.
    - "bfloat16", "float16": float32 parameters and outputs, half compute.
    - "param_dtype=float32,compute_dtype=bfloat16,output_dtype=float32": any of the three (also as `params`, `compute`,
      `output` or `p`, `c`, `o`) and `matmul`; what is left out is float32. Short dtypes (`f32`, `bf16`, `f16`) are
      understood.

    Raises:
        ValueError: the text is none of these.
    """
    if isinstance(policy, Policy):
        return policy
    if policy in _NAMED:
        return _NAMED[policy]
    if "=" not in policy:
        raise ValueError(_unknown(policy))
    pairs = [(name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in policy.split(","))]
    fields = [_FIELDS.get(name, name) for name, _ in pairs]
    known = (*_FIELDS.values(), "matmul")
    unknown = [name for name in fields if name not in known]
    # numpy's half is float16; to users of jmp it is bfloat16 on a TPU.
    unknown += [f"{name}=half (float16 or bfloat16?)" for name, value in pairs if value == "half"]
    if unknown or len(set(fields)) < len(fields):
        raise ValueError(f"{_unknown(policy)} It has {', '.join(unknown) or 'a field twice'}.")
    given: dict[str, Any] = {name: _DTYPES.get(value, value) for name, (_, value) in zip(fields, pairs, strict=True)}
    return Policy(**given)


def _unknown(policy: str) -> str:
    return (
        f"precision policy {policy!r} is not understood; wanted one of {', '.join(_NAMED)}, or "
        "'param_dtype=float32,compute_dtype=bfloat16,output_dtype=float32' with any of these three and matmul."
    )


def storage_params(policy: Policy, params: PyTree) -> PyTree:
    """Parameters in the dtype in which they are kept and updated; overridden ones are kept at least as wide as their
    override.
    """
    if not policy.casts:
        return params
    return _cast_by_path(policy, params, policy.param_dtype, widen=True)


def cast_params(policy: Policy, params: PyTree) -> PyTree:
    """Stored parameters as the model computes with them: floating leaves in `compute_dtype`, or in their override."""
    if not policy.casts:
        return params
    return _cast_by_path(policy, params, policy.compute_dtype, widen=False)


def _cast_by_path(policy: Policy, params: PyTree, dtype: Any, *, widen: bool) -> PyTree:
    leaves = []
    for path, leaf in trees.named_leaves(params).items():
        override = next((wanted for pattern, wanted in policy.overrides if trees.matches(path, pattern)), dtype)
        wanted = max(override, dtype, key=lambda one: jnp.finfo(one).bits) if widen else override
        leaves.append(trees.cast_floating(leaf, wanted))
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def cast_inputs(policy: Policy, inputs: PyTree) -> PyTree:
    """Inputs as the model computes with them. Integers (token ids, raw images), masks and keys stay."""
    return trees.cast_floating(inputs, policy.compute_dtype) if policy.casts else inputs


def cast_outputs(policy: Policy, outputs: PyTree) -> PyTree:
    """Outputs as the loss and the metrics get them."""
    return trees.cast_floating(outputs, policy.output_dtype) if policy.casts else outputs


def keep_state(before: PyTree, after: PyTree) -> PyTree:
    """Model state in the dtypes that it went in with: what a half-precision pass made of float32 statistics is widened
    again.

    State that has changed its structure (made by this very call) gets float32 for whatever is narrower.
    """
    if jax.tree.structure(before) == jax.tree.structure(after):
        return jax.tree.map(
            lambda old, new: trees.cast_floating(new, old.dtype) if trees.is_floating(old) else new, before, after
        )
    return trees.widen(after)


def matmul_precision(policy: Policy) -> contextlib.AbstractContextManager[Any]:
    """Inside the block, products of matrices are as precise as the policy says, where it says so."""
    return jax.default_matmul_precision(policy.matmul) if policy.matmul else contextlib.nullcontext()


def apply_policy(apply: Apply, policy: Policy) -> Apply:
    """`Model.apply` under a policy, with the same signature.

    Parameters and floating inputs are cast to the compute dtype, floating outputs to the output dtype. Model state
    (batch statistics) goes in and comes back uncast, in float32. A policy that casts nothing and sets no matmul
    precision returns `apply` itself.
    """
    if not policy.casts and policy.matmul is None:
        return apply

    def applied(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: bool, key: PRNGKeyArray | None = None
    ) -> tuple[PyTree, PyTree]:
        with matmul_precision(policy):
            outputs, new_state = apply(
                cast_params(policy, params), state, cast_inputs(policy, inputs), train=train, key=key
            )
        if not policy.casts:
            return outputs, new_state
        return cast_outputs(policy, outputs), keep_state(state, new_state)

    return applied
