"""What the numbers of a training step need: exponents of gradients and activations, and what a format loses of them.

A float16 number has its highest exponent at 15 and its lowest at −24 (below −14 with fewer and fewer digits). bfloat16
has float32's range, to −126. A loss scale of 2**s moves every gradient up by s exponents; the best s is read off the
histogram.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from jaxrecipe import trees
from jaxrecipe.precision.activations import activation_shapes, watched

PyTree = Any
Loss = Callable[..., Float[Array, ""]]
"""`loss(params, *args) -> scalar`."""

LOWEST, HIGHEST = -149, 127
"""Exponents of the smallest subnormal and the largest binade of float32."""
BINS = HIGHEST - LOWEST + 1
LARGEST_SCALE = 2.0**24


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """How the magnitudes of several arrays spread over the powers of two.

    Attributes:
        names: of the arrays.
        counts: `[arrays, exponents]`, numbers x with 2**e <= |x| < 2**(e + 1), for e from `LOWEST` to `HIGHEST`.
        zeros, nonfinite: `[arrays]`, numbers that have no exponent.
    """

    names: tuple[str, ...]
    counts: Int[np.ndarray, "arrays exponents"]
    zeros: Int[np.ndarray, "arrays"]
    nonfinite: Int[np.ndarray, "arrays"]

    @property
    def highest(self) -> int | None:
        """The highest exponent that occurs, or None when all is zero."""
        used = np.flatnonzero(self.counts.sum(axis=0))
        return int(used[-1]) + LOWEST if used.size else None

    @property
    def lowest(self) -> int | None:
        """The lowest exponent that occurs, or None when all is zero."""
        used = np.flatnonzero(self.counts.sum(axis=0))
        return int(used[0]) + LOWEST if used.size else None


@dataclass(frozen=True)
class Format:
    """The exponents that a floating format can hold, infinity excluded.

    Attributes:
        highest: of its largest number.
        lowest_normal: below it digits are lost, or the hardware flushes to zero.
        lowest: numbers with a lower one round to zero.
    """

    highest: int
    lowest_normal: int
    lowest: int


def format_of(dtype: Any) -> Format:
    """The range of a dtype. A number just below the smallest subnormal still rounds up to it, hence one lower
    exponent.
    """
    info = jnp.finfo(jnp.dtype(dtype))
    return Format(int(info.maxexp) - 1, int(info.minexp), int(info.minexp) - int(info.nmant) - 1)


def exponents(tree: PyTree) -> Exponents:
    """Histogram of the exponents of each floating array of a tree, by its path."""
    named = {path: leaf for path, leaf in trees.named_leaves(tree).items() if trees.is_floating(leaf)}
    return _gathered(_count_all(named))


@jax.jit
def _count_all(named: dict[str, Array]) -> dict[str, Int32[Array, "columns"]]:
    return {name: count_exponents(leaf) for name, leaf in named.items()}


def count_exponents(values: Float[Array, "*shape"]) -> Int32[Array, "columns"]:
    """Counts by exponent, then of zeros, then of what is not finite: `[BINS + 2]`. For use under jit.

    Read from the bits, since processors may flush the smallest numbers to zero before arithmetic can see them.
    """
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32).ravel(), jnp.int32) & jnp.int32(0x7FFFFFFF)
    biased, mantissa = bits >> jnp.int32(23), bits & jnp.int32(0x7FFFFF)
    subnormal = jnp.int32(31) - jax.lax.clz(mantissa)
    column = jnp.where(biased == 0, subnormal, biased - jnp.int32(127 + LOWEST))
    column = jnp.where(bits == 0, jnp.int32(BINS), column)
    column = jnp.where(biased == 255, jnp.int32(BINS + 1), column)
    return jnp.zeros(BINS + 2, jnp.int32).at[column].add(jnp.int32(1))


def _gathered(counted: dict[str, Array]) -> Exponents:
    rows = np.asarray([np.asarray(row, np.int64) for row in counted.values()], np.int64).reshape(-1, BINS + 2)
    return Exponents(names=tuple(counted), counts=rows[:, :BINS], zeros=rows[:, BINS], nonfinite=rows[:, BINS + 1])


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a format loses of several arrays at a scale, `[arrays]` each, as shares of the numbers that are neither zero
    nor infinite.

    Attributes:
        overflow: become infinite.
        underflow: become zero.
        subnormal: stay, with digits lost.
    """

    overflow: Float[np.ndarray, "arrays"]
    underflow: Float[np.ndarray, "arrays"]
    subnormal: Float[np.ndarray, "arrays"]


def shares(found: Exponents, dtype: Any, *, scale: float = 1.0) -> Shares:
    """What `dtype` would lose of numbers that are multiplied by a power of two first.

    Exact to the exponent: the few numbers that round up to infinity from just below it count as held, and so does the
    one number, half the smallest, that rounds to zero.

    Raises:
        ValueError: the scale is not a power of two.
    """
    shift, limits = exponent_of(scale), format_of(dtype)
    exponent = np.arange(LOWEST, HIGHEST + 1) + shift
    total = np.maximum(found.counts.sum(axis=1), 1)

    def share(where: np.ndarray) -> np.ndarray:
        return found.counts[:, where].sum(axis=1) / total

    return Shares(
        overflow=share(exponent > limits.highest),
        underflow=share(exponent < limits.lowest),
        subnormal=share((exponent >= limits.lowest) & (exponent < limits.lowest_normal)),
    )


def exponent_of(scale: float) -> int:
    fraction, exponent = math.frexp(scale)
    if fraction != 0.5:
        raise ValueError(f"scale is {scale}; wanted a power of two, such as 1024 or 0.5")
    return exponent - 1


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Exponents of everything that a backward pass handles, measured at loss scale 1.

    Attributes:
        gradients: of each parameter.
        activation_gradients: of the output of each matrix product or convolution, named after its parameter.
        activations: those outputs themselves. A loss scale does not move them: what overflows here needs a wider
            format.
    """

    gradients: Exponents
    activation_gradients: Exponents
    activations: Exponents


def survey(loss: Loss, params: PyTree, *args: Any) -> Survey:
    """Measure the exponents of a loss's gradients. Compiles one program.

    Args:
        loss: `loss(params, *args) -> scalar`. Give it in float32: what half precision has lost already cannot be seen.
        params: where to measure; early and late in training differ, so measure both.
        args: further arguments of the loss, such as a batch.
    """

    @jax.jit
    def measured(params: PyTree, *args: Any) -> tuple[dict[str, Array], ...]:
        run = watched(loss, params, *args)
        zeros = {name: jnp.zeros(at.shape, at.dtype) for name, at in activation_shapes(run).items()}

        def perturbed(params: PyTree, zeros: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
            values: dict[str, Array] = {}

            def watch(name: str, value: Array) -> Array:
                values[name] = value
                return value + zeros[name] if name in zeros else value

            return watched(loss, params, *args)(watch), {name: values[name] for name in zeros}

        (grads, inner), values = jax.grad(perturbed, argnums=(0, 1), has_aux=True)(params, zeros)
        floating = {path: leaf for path, leaf in trees.named_leaves(grads).items() if trees.is_floating(leaf)}
        return tuple(
            {name: count_exponents(leaf) for name, leaf in found.items()} for found in (floating, inner, values)
        )

    return Survey(**dict(zip(Survey.__dataclass_fields__, map(_gathered, measured(params, *args)), strict=True)))


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A loss scale for a format, and what is lost with it.

    Attributes:
        dtype: name of the format.
        scale: the power of two to use.
        headroom: powers of two that gradients may still grow before they overflow at that scale; negative when they do
            now.
        footroom: powers of two that the smallest gradient seen may still shrink before digits are lost; negative when
            they are now.
        underflow, subnormal: largest share that any array loses at that scale, of `Shares`.
        underflow_unscaled: the same without a scale.
        worst: the array that loses most at that scale; "" when nothing is lost.
    """

    dtype: str
    scale: float
    headroom: int
    footroom: int
    underflow: float
    subnormal: float
    underflow_unscaled: float
    worst: str


def advise(found: Survey, dtype: Any, *, headroom: int = 4) -> Advice:
    """The largest power-of-two scale at which gradients may still grow 2**headroom times before they overflow.

    The largest is best, because gradients shrink as training goes on. Where the format holds everything unscaled, with
    as much room on either side (bfloat16, as a rule), the advice is 1.

    Raises:
        ValueError: gradients are not finite already in what was measured, or all are zero.
    """
    both = joined(found)
    bad = [name for name, count in zip(both.names, both.nonfinite, strict=True) if count]
    if bad or both.highest is None or both.lowest is None:
        raise ValueError(
            f"no scale helps: gradients of {', '.join(bad) or 'everything'} are {'not finite' if bad else 'zero'}"
        )
    limits = format_of(dtype)
    fits = both.highest + headroom <= limits.highest and both.lowest - headroom >= limits.lowest_normal
    shift = 0 if fits else min(limits.highest - headroom - both.highest, exponent_of(LARGEST_SCALE))
    lost = shares(both, dtype, scale=2.0**shift)
    worst = int(np.argmax(lost.underflow + lost.subnormal))
    return Advice(
        dtype=jnp.dtype(dtype).name,
        scale=2.0**shift,
        headroom=limits.highest - both.highest - shift,
        footroom=both.lowest + shift - limits.lowest_normal,
        underflow=float(lost.underflow.max()),
        subnormal=float(lost.subnormal.max()),
        underflow_unscaled=float(shares(both, dtype).underflow.max()),
        worst=both.names[worst] if lost.underflow[worst] + lost.subnormal[worst] > 0 else "",
    )


def joined(found: Survey) -> Exponents:
    """Gradients of parameters and of activations, the latter told apart by an arrow."""
    gradients, inner = found.gradients, found.activation_gradients
    return Exponents(
        names=(*gradients.names, *(f"→ {name}" for name in inner.names)),
        counts=np.concatenate([gradients.counts, inner.counts]),
        zeros=np.concatenate([gradients.zeros, inner.zeros]),
        nonfinite=np.concatenate([gradients.nonfinite, inner.nonfinite]),
    )


def worst_rows(found: Exponents, dtype: Any, *, scale: float = 1.0, most: int = 40) -> Exponents:
    """The arrays that lose most in a format at a scale, at most so many, in their old order."""
    lost = shares(found, dtype, scale=scale)
    kept = np.sort(np.argsort(-(lost.overflow + lost.underflow + lost.subnormal), kind="stable")[:most])
    return Exponents(
        names=tuple(found.names[row] for row in kept),
        counts=found.counts[kept],
        zeros=found.zeros[kept],
        nonfinite=found.nonfinite[kept],
    )
