"""What a traced program does with the random numbers that it draws: the way of a draw shows what it is for.

Dropout multiplies values by a random mask, or selects zeros by one. What is drawn by design looks otherwise: noise is
scaled by what the model computes (a reparametrized latent), is fed to a layer (a generator, a noise level), decides
among what the model computes (sampling a token), or stands in the outputs, where the loss is told of it (diffusion).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SOURCES = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne", "sign")
PRODUCTS = ("dot_general", "conv_general_dilated")
CHOICES = ("argmax", "argmin", "top_k", "sort")
SHAPING = (
    "broadcast_in_dim",
    "reshape",
    "convert_element_type",
    "squeeze",
    "expand_dims",
    "transpose",
    "copy",
    "slice",
)
CENTERING = ("erf_inv", "erfc_inv")
LOOPS_SETTLE = 3
"""Times that a loop's body is gone through: each adds what one turn hands to the next."""


class Flow(NamedTuple):
    """What a value depends on.

    Attributes:
        data: on inputs, parameters or state.
        random: on a random draw.
        mask: it is a draw that was compared with a constant: an event that happens or not.
        centered: it is a normal draw times constants, so that its mean is zero.
        noised: it is what the model computes plus a draw of its own.
    """

    data: bool = False
    random: bool = False
    mask: bool = False
    centered: bool = False
    noised: bool = False

    @property
    def drawn(self) -> bool:
        """A draw and nothing else."""
        return self.random and not self.data

    def joined(self, other: "Flow") -> "Flow":
        """What depends on both, one way or the other."""
        return Flow(*(ours or theirs for ours, theirs in zip(self, other, strict=True)))


@dataclass
class Uses:
    """What was seen on the way.

    Attributes:
        found: names of uses: "masks", "scales", "feeds", "chooses", "tells".
        numbers: how many random numbers are drawn.
    """

    found: set[str] = field(default_factory=set)
    numbers: int = 0


def uses_of_randomness(jaxpr: Any, data: Sequence[bool]) -> tuple[Uses, list[Flow]]:
    """What a program does with its draws, and what each of its results depends on.

    Args:
        jaxpr: the program.
        data: which of its arguments are inputs, parameters or state; the others are keys.
    """
    uses = Uses()
    results = _through(jaxpr, [Flow(data=given) for given in data], uses, times=1)
    if any(flow.drawn for flow in results):
        uses.found.add("tells")
    return uses, results


def _through(jaxpr: Any, given: Sequence[Flow], uses: Uses, times: int) -> list[Flow]:
    known: dict[Any, Flow] = dict(zip(jaxpr.invars, given, strict=True))

    def flow(leaf: Any) -> Flow:
        return Flow() if hasattr(leaf, "val") else known.get(leaf, Flow())  # a constant depends on nothing

    for eqn in jaxpr.eqns:
        arguments = [flow(leaf) for leaf in eqn.invars]
        results = _called(eqn, arguments, uses, times) or [_result(eqn, arguments, uses, times)] * len(eqn.outvars)
        known.update(zip(eqn.outvars, results, strict=True))
    return [flow(leaf) for leaf in jaxpr.outvars]


def _called(eqn: Any, arguments: list[Flow], uses: Uses, times: int) -> list[Flow]:
    """The results of an operation that runs other programs; empty for any other operation."""
    params, name = eqn.params, eqn.primitive.name
    if name == "cond":
        index, *rest = arguments
        if index.mask and index.drawn and any(flow.data for flow in rest):
            uses.found.add("masks")
        branches = [_through(branch.jaxpr, rest, uses, times) for branch in params["branches"]]
        return [_joined([*flows, Flow(index.data, index.random)]) for flows in zip(*branches, strict=True)]
    if name == "scan":
        return _looped(
            params["jaxpr"].jaxpr, arguments, params["num_consts"], params["num_carry"], uses, times * params["length"]
        )
    if name == "while":
        consts, body = arguments[params["cond_nconsts"] :], params["body_jaxpr"].jaxpr
        return _looped(body, consts, params["body_nconsts"], len(eqn.outvars), uses, times)
    inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
    inner = getattr(inner, "jaxpr", inner)
    if inner is None or len(inner.invars) != len(arguments):
        return []
    return _through(inner, arguments, uses, times)


def _looped(body: Any, given: list[Flow], consts: int, carried: int, uses: Uses, times: int) -> list[Flow]:
    """The results of a loop: what a turn hands to the next is joined until it settles."""
    held, carry, each = given[:consts], given[consts : consts + carried], given[consts + carried :]
    for _ in range(LOOPS_SETTLE):
        results = _through(body, [*held, *carry, *each], Uses(), times)
        carry = [old.joined(new) for old, new in zip(carry, results, strict=False)]
    return _through(body, [*held, *carry, *each], uses, times)


def _result(eqn: Any, arguments: list[Flow], uses: Uses, times: int) -> Flow:
    """What the results of one operation depend on; notes what it does to draws."""
    name, union = eqn.primitive.name, _joined(arguments)
    if name in SOURCES:
        uses.numbers += times * sum(math.prod(leaf.aval.shape) for leaf in eqn.outvars)
        if union.data:
            uses.found.add("chooses")
        return Flow(data=union.data, random=True)
    plain = Flow(data=union.data, random=union.random)
    drawn, data = [flow for flow in arguments if flow.drawn], [flow for flow in arguments if flow.data]
    if name in SHAPING:
        return union
    if name in CENTERING:
        return plain._replace(centered=plain.drawn)
    if name in CHOICES and union.noised:
        uses.found.add("chooses")
    if name in COMPARISONS:
        if drawn and data:
            uses.found.add("chooses")
        return plain._replace(mask=union.drawn)
    if drawn and data:
        uses.found.update(_met(name, arguments))
        return plain._replace(noised=name in ("add", "sub"))
    if name in ("mul", "div", "neg", "select_n", "integer_pow"):
        return plain._replace(mask=union.mask and not union.data, centered=union.centered and not union.data)
    return plain


def _met(name: str, arguments: list[Flow]) -> Iterable[str]:
    """What it means that a draw meets what the model computes in an operation."""
    drawn = [flow for flow in arguments if flow.drawn]
    if name in PRODUCTS:
        return ("feeds",)
    if name == "select_n":
        predicate, *cases = arguments
        dropped = any(not flow.data and not flow.random for flow in cases)
        return ("masks",) if predicate.drawn and dropped else ()
    if name in ("mul", "div"):
        if any(flow.mask for flow in drawn):
            return ("masks",)
        return ("scales",) if any(flow.centered for flow in drawn) else ()
    return ()


def _joined(flows: Iterable[Flow]) -> Flow:
    union = Flow()
    for flow in flows:
        union = union.joined(flow)
    return union
