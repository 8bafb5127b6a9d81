"""The compiled program of the step: compiled once, on the device only, with nothing large inside."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.step_pass import programs_of_calls
from jaxrecipe.probes.traced_step import Traced, constants, equations, traced_step
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup

CALLS, WARM = 8, 2
"""Calls that are counted, and those that may compile: the first, and one whose state has the form that the step gives
it."""
CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print", "outside_call")
"""Operations that call Python from inside of a program."""
COMPILED = ("jit", "pjit", "xla_pmap", "shard_map", "custom_partitioning")
"""Operations that are programs of their own."""
MIXED = 2


def compiled_step(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    constant_bytes: int = 1_000_000,
    state_bytes: int = 100_000_000,
    operations: int = 10,
) -> Result:
    """The step is compiled once, stays on the device, and carries nothing large along.

    What it does: counts what XLA compiles while the step is called again and again with arrays of the same shapes, and
    traces the step to look for calls to Python, arrays that are baked into the program, operations outside of any
    compiled program, and whether a large state is donated.

    Why it matters: a program that is compiled at every step, or waits for Python, is slower by orders of magnitude; a
    data set that is closed over is copied into the program; a state that is not donated is held twice.

    What to do: make the jitted function once, outside of the loop; pass what changes as arrays and not as Python
    values; pass data as arguments; donate the state (`jax.jit(step, donate_argnums=0)`).

    Args:
        setup: the set-up.
        key: seeds the steps.
        constant_bytes: WARN for arrays in the program of more than this.
        state_bytes: WARN when a state of more than this is not donated.
        operations: WARN when more operations than this stand outside of compiled programs.

    Source: JAX documentation, "Just-in-time compilation" and "Buffer donation".
    """
    programs, traced = programs_of_calls(setup, key, CALLS), traced_step(setup, key)
    again = _compiled_again(programs)
    findings = [*_recompiles(programs, again)]
    size = trees.nbytes(setup.fresh_state())
    if traced.jaxpr is not None:
        findings += [*_host_calls(traced), *_captured(traced, constant_bytes), *_eager(traced, operations)]
        findings += _not_donated(traced, size, state_bytes)
    findings += _devices(setup)
    why_not = (
        f" It could not be traced, so that its inside is undetermined ({traced.why_not})." if traced.why_not else ""
    )
    return Result(
        summary=f"No step after the first two compiles anything, in {CALLS} calls.{why_not}",
        findings=tuple(findings),
        measures=(again, Measure(name="bytes of the state", value=size, unit="bytes")),
        evidence=(Table(title="Programs compiled", columns=("step", "programs"), rows=list(enumerate(programs))),),
    )


def _compiled_again(programs: Sequence[int]) -> Measure:
    later = programs[WARM:]
    return Measure(name="later steps that compile something", value=sum(map(bool, later)), high=0, unit="steps")


def _recompiles(programs: Sequence[int], measure: Measure) -> Iterator[Finding]:
    """Steps that compile although nothing of the shapes has changed."""
    later = programs[WARM:]
    if measure.value == 0 or not later:
        return
    text = (
        f"{measure.value:.0f} of {len(later)} steps compile {sum(later)} programs again, with arrays of the same "
        "shapes and dtypes: a function is jitted anew in the step, or a Python value that changes is static."
    )
    finding = failure if measure.value == len(later) and len(later) > MIXED else warning
    yield finding("step/recompiles", text, measures=(measure,))


def _host_calls(traced: Traced) -> Iterator[Finding]:
    names = [one.primitive.name for one in equations(traced.jaxpr.jaxpr) if one.primitive.name in CALLBACKS]
    if names:
        text = f"The step calls Python from inside of its program {len(names)} times ({', '.join(sorted(set(names)))})."
        yield warning("step/host-callback", text)


def _captured(traced: Traced, most: int) -> Iterator[Finding]:
    arrays = sorted(constants(traced.jaxpr), key=lambda array: -array.nbytes)
    total = sum(array.nbytes for array in arrays)
    measure = Measure(
        name="bytes of arrays in the program",
        value=total,
        high=most,
        severity=Severity.WARN,
        unit="bytes",
        thresholds={"high": "constant_bytes"},
    )
    if measure.verdict is not None:
        shown = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays[:3])
        text = f"The program of the step holds {total / 1e6:.1f} MB of arrays that it closes over: {shown}."
        yield warning("step/captured-arrays", text, measures=(measure,))


def _eager(traced: Traced, most: int) -> Iterator[Finding]:
    loose = [one for one in traced.jaxpr.jaxpr.eqns if one.primitive.name not in COMPILED]
    whole = len(traced.jaxpr.jaxpr.eqns)
    if len(loose) > most:
        text = f"{len(loose)} of {whole} operations of the step stand outside of any compiled program."
        yield warning("step/not-compiled", text)


def _not_donated(traced: Traced, size: int, most: int) -> Iterator[Finding]:
    donated = [flag for one in equations(traced.jaxpr.jaxpr) for flag in one.params.get("donated_invars", ())]
    if size > most and not any(donated):
        text = f"A state of {size / 1e6:.0f} MB is not donated, so that old and new one are held at the same time."
        yield warning("step/state-not-donated", text)


def _devices(setup: Setup) -> Iterator[Finding]:
    """Arrays of the state on different devices, or wider than the rest."""
    leaves = [leaf for leaf in jax.tree.leaves(setup.loop.init(setup.key)) if isinstance(leaf, jax.Array)]
    places = {tuple(sorted(str(device) for device in leaf.devices())) for leaf in leaves}
    if len(places) > 1:
        text = f"The arrays of the state lie on different devices: {'; '.join(' and '.join(one) for one in places)}."
        yield warning("step/mixed-devices", text)
    wide = [dtype for dtype in map(_dtype, leaves) if dtype == np.float64]
    narrow = [dtype for dtype in map(_dtype, leaves) if dtype == np.float32]
    if wide and narrow and len(wide) < len(narrow):
        text = f"{len(wide)} of {len(wide) + len(narrow)} arrays of the state are float64 and the rest float32."
        yield warning("step/mixed-widths", text)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else None
