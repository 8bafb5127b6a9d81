"""Worker processes: a case that hangs, crashes or takes all memory ends its worker and nothing else."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from experiments.faults.case import Case, Outcome, from_json

CASES_A_WORKER = 40
"""A worker is replaced after so many cases, since compiled programs are never wholly given back."""


@dataclass
class Worker:
    """A process on its own cores, started when it is first needed."""

    cores: Sequence[int]
    process: subprocess.Popen[str] | None = None
    errors: IO[str] = field(default_factory=lambda: tempfile.TemporaryFile("w+"))  # noqa: SIM115  (open as long as the worker)
    cases: int = 0

    def run(self, case: Case, limit: float) -> Outcome:
        """The outcome of a case, or that it took too long or ended the process."""
        if self.process is None or self.process.poll() is not None or self.cases >= CASES_A_WORKER:
            self.stop()
            self._start()
        process, self.cases = self.process, self.cases + 1
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker has no pipes")
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(limit, end)
        clock.start()
        try:
            process.stdin.write(json.dumps(vars(case)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            clock.cancel()
        if answer:
            return from_json(json.loads(answer))
        code = process.wait()
        if late.is_set():
            return Outcome(case, seconds=limit, stopped=f"took more than {limit:.0f} s")
        return Outcome(case, stopped=f"the process ended with {code}: {self._last_error()}")

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _start(self) -> None:
        self.cases = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.faults.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"},
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, self.cores)

    def _last_error(self) -> str:
        self.errors.seek(0)
        return " ".join(self.errors.read()[-300:].split())


def run_all(
    cases: Sequence[Case],
    *,
    workers: int,
    limit: float,
    started: Callable[[Case], None],
    done: Callable[[Outcome], None],
) -> None:
    """Run every case; `started` and `done` are told from the workers' threads, one at a time."""
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    one_at_a_time = threading.Lock()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pool = [Worker(cores[place::workers] or cores) for place in range(workers)]
    stopping = threading.Event()

    def work(worker: Worker) -> None:
        while not stopping.is_set():
            try:
                case = waiting.get_nowait()
            except queue.Empty:
                return
            with one_at_a_time:
                started(case)
            outcome = worker.run(case, limit)
            if stopping.is_set():
                return
            with one_at_a_time:
                done(outcome)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in pool]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stopping.set()
        for worker in pool:
            worker.stop()
