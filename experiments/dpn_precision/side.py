"""What a framework must offer to be measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Side:
    """A cell made ready by one framework.

    Attributes:
        advance: starts the training step of this number and need not wait for it.
        wait: returns when all that was started is done.
        measured: of every step so far: mean loss, correct answers, images that count; `[steps, 3]`.
        skipped: steps skipped because of gradients that were not finite.
        peak_bytes: the allocator's peak, or None where it does not say.
        compile_seconds: before the first step could start; 0 where nothing is compiled.
        compiled_bytes: what the compiler says a step needs, or None.
        device: its name.
        notes: choices made on the way.
    """

    advance: Callable[[int], None]
    wait: Callable[[], None]
    measured: Callable[[], np.ndarray]
    skipped: Callable[[], int]
    peak_bytes: Callable[[], int | None]
    compile_seconds: float
    compiled_bytes: int | None
    device: str
    notes: Mapping[str, Any] = field(default_factory=dict)
