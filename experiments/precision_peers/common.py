"""What every library is asked to train, and in what form it is asked: one small problem whose gradient is known
exactly.

The model is `rows @ w` with three weights that start at zero, the loss the mean over eight rows (times `gain`, plus
`offset`), the optimizer plain gradient descent with learning rate 1. So each step must subtract exactly `gain *
mean(rows)` from w. A running mean of the rows stands for batch statistics.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ROWS, WIDTH = 8, 3


class NotOfferedError(Exception):
    """The library has no such thing."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a scenario asks for. None means the library's own default.

    Attributes:
        initial: initial loss scale.
        floor: lowest loss scale.
        growth_every: good steps to a growth.
        static: a static scale instead of a dynamic one.
        clip: clip each gradient value to plus or minus this.
        schedule: halve the learning rate at every step.
        half: the compute dtype, by name.
        dtype_as_text: hand that name itself to the library, not the dtype object.
        half_loss: the loss function returns a float16 scalar.
        gain: multiplies the loss.
        offset: is added to the loss, which changes no gradient.
        patience: bad steps in a row that the library is told to tolerate, where it wants to be told.
    """

    initial: float | None = None
    floor: float | None = None
    growth_every: int | None = None
    static: float | None = None
    clip: float | None = None
    schedule: bool = False
    half: str = "float16"
    dtype_as_text: bool = False
    half_loss: bool = False
    gain: float = 1.0
    offset: float = 0.0
    patience: int = 4


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """One library's training of the small problem, as functions.

    Attributes:
        step: takes a batch `[8, 3]`, returns the loss that the library's way of training would log.
        weights, stats, scale: as they are now. `scale` raises NotOfferedError where there is none.
        compute_dtype: name of the dtype in which the product is really computed.
        reload: saves everything to a directory, and gives a trainer that was made anew and restored from it.
        with_scale: puts another static scale into the state, for libraries that compile their step; else None.
        run: trains for so many steps on the same batch, the way the library offers for a whole run.
        told: what the state says about steps that were skipped, in words; "" where it keeps no such count.
    """

    step: Callable[[np.ndarray], float]
    weights: Callable[[], np.ndarray]
    stats: Callable[[], np.ndarray]
    scale: Callable[[], float]
    compute_dtype: Callable[[], str]
    reload: Callable[[str], "Trainer"]
    run: Callable[[int, np.ndarray], None]
    told: Callable[[], str] = lambda: ""
    with_scale: Callable[[float], None] | None = None


Make = Callable[[Options], Trainer]


def rows(value: float) -> np.ndarray:
    """A batch whose rows are all the same: its gradient is `value` in each weight."""
    return np.full((ROWS, WIDTH), value, np.float32)


def looped(step: Callable[[np.ndarray], float]) -> Callable[[int, np.ndarray], None]:
    """A run of many steps for a library that leaves the loop to its user."""

    def run(steps: int, batch: np.ndarray) -> None:
        for _ in range(steps):
            step(batch)

    return run
