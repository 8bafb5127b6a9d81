"""Whether what an optimizer collects is carried from step to step."""

from collections.abc import Iterator

import numpy as np

from jaxrecipe.checks.step.carries_state.watched import Watched, names
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.state_layout import COUNTER, inside

LATER = 1000
"""A number of updates at which bias correction and any schedule are elsewhere than at the start."""
COLLECTED = 0.1
"""What momentum and moments are set to, to see whether a step reads them; second moments must not be negative."""


def lost_units(seen: Watched) -> list[str]:
    """Paths of what an optimizer collects and loses, though the step reads it.

    A part is lost when nothing in it ever changes, it is what an optimizer begins with (zeros in the form of parameters
    that do move, or a counter), and the step makes another update of it when it holds something else.
    """
    lost = [unit for unit in _units(seen) if _is_lost(seen, unit)]
    return [unit for unit in lost if not any(unit != one and inside(unit, one) for one in lost)]


def lost_optimizer_state(seen: Watched, units: list[str]) -> Iterator[Finding]:
    """Moments that stay zero and counters that stay put although the step reads them."""
    if units:
        yield failure(
            "step/optimizer-state-lost",
            f"{names(units)} is after {seen.run.steps} steps what it was before, bit for bit, although the parameters "
            "move and the update depends on it.",
        )


def copies_that_stand_still(seen: Watched) -> Iterator[Finding]:
    """Copies of the parameters, as averages and target networks are, that never follow."""
    for mirror in seen.layout.mirrors:
        first = seen.run.first
        equal = all(np.array_equal(first[path], first[param]) for path, param in mirror.arrays.items())
        zero = not any(first[path].any() for path in mirror.arrays)
        left_behind = any(param in seen.run.moved for param in mirror.arrays.values())
        if equal and not zero and left_behind and not seen.moved(mirror.arrays):
            yield warning(
                "step/copy-stands-still",
                f"{mirror.prefix} begins as a copy of the parameters and does not follow them in {seen.run.steps} "
                "steps.",
            )


def _units(seen: Watched) -> list[str]:
    """Paths of what may be an optimizer's own state."""
    first = seen.run.first
    found = []
    for mirror in seen.layout.mirrors:
        learning = any(param in seen.run.moved for param in mirror.arrays.values())
        if learning and not any(first[path].any() for path in mirror.arrays):
            found.append(mirror.unit or mirror.prefix)
    counters = [path for path in first if path.rpartition("/")[2] == COUNTER and first[path].dtype.kind in "iu"]
    found += [path.rpartition("/")[0] or path for path in counters if path not in seen.layout.params]
    return [unit for unit in dict.fromkeys(found) if seen.layout.without_params(unit)]


def _is_lost(seen: Watched, unit: str) -> bool:
    arrays = {path: array for path, array in seen.run.first.items() if inside(path, unit)}
    if seen.moved(arrays):
        return False
    floating = [array for array in arrays.values() if array.ndim and array.dtype.kind not in "iub"]
    if any(array.any() for array in floating):
        return False  # something else than what an optimizer begins with
    changed = {
        path: np.full_like(array, LATER if array.dtype.kind in "iu" else COLLECTED)
        for path, array in arrays.items()
        if (array.ndim and array.dtype.kind not in "iub") or path.rpartition("/")[2] == COUNTER
    }
    return bool(changed) and seen.depends_on(changed)
