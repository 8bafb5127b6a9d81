"""Parameters that never move, that move although they are frozen, and whose units are copies of one another."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxrecipe.checks.step.carries_state.watched import Watched, floating, is_frozen, names
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.step_pass import reported_loss, with_leaves

WAITS = "mini_step"
"""What optax calls the number of batches whose gradients are collected for the next update."""
SMALL = 0.05
"""Standard deviation of the numbers that zero matrices are set to, to see whether the rest then learns."""
TRIED_STEPS = 40
"""Steps of that experiment."""
CLEARLY = 0.1
"""Share by which the loss must end lower with them."""


def parameter_findings(seen: Watched) -> Iterator[Finding]:
    """Everything that is wrong with what moves."""
    first, moved, params = seen.run.first, seen.run.moved, seen.layout.params
    free = [path for path, name in params.items() if floating(first[path]) and not is_frozen(seen.setup, path, name)]
    frozen = [path for path, name in params.items() if is_frozen(seen.setup, path, name)]
    if moving := [path for path in frozen if path in moved]:
        text = f"{len(moving)} parameters that are declared frozen move: {names(moving)}."
        yield failure("optimizer/declared-frozen-moves", text)
    stuck = [path for path in free if path not in moved]
    if free and len(stuck) == len(free):
        yield _nothing_moves(seen)
    elif stuck:
        yield _some_stuck(seen, stuck, len(free))
    if twins := [path for path in free if path in moved and _units_are_copies(*_on_one_device(seen, path))]:
        text = f"The units of {names(twins)} are copies of one another, before and after {seen.run.steps} steps."
        yield failure("model/identical-units", text)


def _nothing_moves(seen: Watched) -> Finding:
    """No parameter moves: a failure unless something else in the state learns, or gradients are still collected."""
    text = f"No parameter moves in {seen.run.steps} steps."
    mirrored = {path for mirror in seen.layout.mirrors for path in mirror.arrays}
    moving = [path for path in seen.run.moved if floating(seen.run.first[path])]
    others = [path for path in moving if path not in mirrored and seen.run.first[path].ndim]
    waits = any(path.endswith(WAITS) and int(last) >= seen.run.steps for path, last in _scalars(seen))
    if others:
        text += f" {names(others)} do: if those are the parameters, name them with from_step(..., params=...)."
        return warning("step/updates-thrown-away", text)
    if waits:
        return warning("step/updates-thrown-away", f"{text} Gradients are still collected for the first update.")
    collected = [path for path in moving if path in mirrored]
    if seen.layout.mirrors and not collected:
        likely = causes("model/no-gradient", "step/optimizer-state-lost", "step/updates-thrown-away")
        zero = not any(seen.run.first[path].any() for path in mirrored)
        unread = zero and not seen.run.moved
        code = "step/updates-thrown-away" if unread or not zero else "model/no-gradient"
        likely = causes(code, *(one.code for one in likely if one.code != code))
        return failure(code, f"{text} Nor does what the optimizer collects.", causes=likely)
    if collected:
        text += f" What the optimizer collects ({names(collected)}) does."
    likely = causes("step/updates-thrown-away", "optimizer/schedule-run-down", "model/no-gradient")
    return failure("step/updates-thrown-away", text, causes=likely)


def _scalars(seen: Watched) -> list[tuple[str, np.ndarray]]:
    return [(path, array) for path, array in seen.run.last.items() if array.ndim == 0 and array.dtype.kind in "iu"]


def _some_stuck(seen: Watched, stuck: Sequence[str], count: int) -> Finding:
    """Some parameters never move: by design, or not; two matrices of zeros in a row keep each other still."""
    text = f"{len(stuck)} of {count} parameters never move in {seen.run.steps} steps: {names(stuck)}."
    zero = [path for path in stuck if seen.run.first[path].ndim > 1 and not seen.run.first[path].any()]
    if len(zero) > 1 and (better := _learn_when_not_zero(seen, zero)):
        code = "model/zero-initialization"
        return failure(code, f"{text} {len(zero)} matrices start at zero; {better}", causes=causes(code))
    with_gradient = {
        param
        for mirror in seen.layout.mirrors
        for path, param in mirror.arrays.items()
        if param in stuck and path in seen.run.moved
    }
    if with_gradient:
        here = f"{names(with_gradient)} has moments, so that it does get a gradient."
        return warning("optimizer/unintended-freeze", text, causes=(cause("optimizer/unintended-freeze", here),))
    likely = causes("model/unused-parameters", "optimizer/unintended-freeze", "model/dead-units")
    return warning("model/unused-parameters", text, causes=likely)


def _learn_when_not_zero(seen: Watched, zero: Sequence[str]) -> str:
    """What small random numbers in place of zeros do to the loss on one batch; empty where they do not help."""
    setup, rng = seen.setup, np.random.default_rng([seen.setup.seed, 5])
    drawn = {
        path: (SMALL * rng.normal(size=seen.run.first[path].shape)).astype(seen.run.first[path].dtype) for path in zero
    }
    ends = []
    for changed in ({}, drawn):
        state = with_leaves(setup.fresh_state(), changed)
        losses = []
        for _ in range(TRIED_STEPS):
            state, metrics = setup.step(state, *setup.batch, seen.key)
            losses.append(reported_loss(metrics))
        ends.append(losses[-1])
    plain, other = ends
    if not other < plain - CLEARLY * abs(plain):
        return ""
    return f"with small random numbers instead the loss of one batch ends at {other:.4g}, without at {plain:.4g}."


def _on_one_device(seen: Watched, path: str) -> tuple[np.ndarray, np.ndarray]:
    """A parameter before and after; the first of its copies where every array of the state has a first axis of devices,
    as under pmap.
    """
    first, devices = seen.run.first, jax.local_device_count()
    replicated = devices > 1 and all(array.shape[:1] == (devices,) for array in first.values())
    before, after = first[path], seen.run.last[path]
    return (before[0], after[0]) if replicated else (before, after)


def _units_are_copies(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a matrix holds one number other than zero and its units stay copies: they can never differ."""
    if before.ndim < 2 or min(before.shape[-2:]) < 2 or not floating(before) or before.dtype.kind != "f":
        return False
    constant = before.ravel()[0] != 0 and (before == before.ravel()[0]).all()
    if not constant or not np.isfinite(after).all():
        return False
    return bool((after == after[..., :1]).all() or (after == after[..., :1, :]).all())
