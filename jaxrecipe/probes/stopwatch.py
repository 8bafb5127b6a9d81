"""A time limit that a busy machine does not cut short."""

import time

PATIENCE = 4.0
"""How many times its limit a run may take on the clock while other work holds the processor."""


class Stopwatch:
    """Time since it was started, on the clock and of this process's own work."""

    def __init__(self) -> None:
        """Start."""
        self._clock, self._work = time.perf_counter(), time.process_time()

    def over(self, seconds: float) -> bool:
        """Whether a limit is used up: both on the clock and in work of this process, or on the clock several times over.

        On a machine that is busy with other things the clock runs and the work does not; what a check finds must not depend on that.
        Where the work is done elsewhere (an accelerator), or by many cores at once, the clock decides.
        """
        clock, work = time.perf_counter() - self._clock, time.process_time() - self._work
        return clock > PATIENCE * seconds or (clock > seconds and work > seconds)
