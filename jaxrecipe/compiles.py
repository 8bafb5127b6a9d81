"""Counting the programs that XLA compiles, because that is where a JAX check suite spends its time."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import jax

__all__ = ["Compiles", "counting_compiles"]

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@dataclass
class Compiles:
    """How many programs were compiled since counting began, and the seconds that took in the compiler."""

    programs: int = 0
    seconds: float = 0.0


@contextlib.contextmanager
def counting_compiles() -> Iterator[Compiles]:
    """Count every XLA compilation of this process inside the `with` block."""
    compiles = Compiles()

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILE_EVENT:
            compiles.programs += 1
            compiles.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiles
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
