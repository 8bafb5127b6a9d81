"""Workers as subprocesses, all with the same environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.dpn_precision.cells import Cell

ROOT = Path(__file__).parent.parent.parent
MALLOC = {
    # One arena that never gives memory back to the system, in huge pages: both frameworks allocate gigabytes a
    # step, and page
    # faults would be most of what is measured.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def environment(cell: Cell) -> dict[str, str]:
    """Of every worker of either framework."""
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    if cell.device == "cpu":
        own |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", **MALLOC}
    else:
        # The allocator's own peak is what is reported; memory is taken as it is needed, up to all there is.
        own |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_CLIENT_MEM_FRACTION": "0.95"}
        own |= {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    return {**os.environ, **own}


def command(order: dict[str, Any]) -> list[str]:
    """The command line of a worker."""
    return [sys.executable, "-m", "experiments.dpn_precision.worker", json.dumps(order)]


def run(cell: Cell, *, timeout: float, **order: Any) -> dict[str, Any]:
    """One cell in its own process; whatever becomes of it is a result."""
    call = command({"cell": cell.as_dict(), **order})
    try:
        done = subprocess.run(
            call, env=environment(cell), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"outcome": "timed out", "why": f"more than {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    killed = done.returncode == -9 or "bad_alloc" in done.stderr
    return {
        "outcome": "out of memory" if killed else "failed",
        "why": done.stderr[-500:] or f"exit code {done.returncode}",
    }


class Server:
    """A worker that waits for orders, for measuring several in turns."""

    def __init__(self, cell: Cell, **options: Any) -> None:
        """Start it; `hello` waits until it is ready."""
        self.process = subprocess.Popen(
            command({"cell": cell.as_dict(), "serve": True, "options": options}),
            env=environment(cell),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """The next line that it prints."""
        stream = self.process.stdout
        line = stream.readline() if stream else ""
        if not line:
            raise RuntimeError(f"worker ended with exit code {self.process.wait()}")
        return json.loads(line)

    def steps(self, count: int) -> dict[str, Any]:
        """Let it take some steps: seconds a step, wall and processor time."""
        return self._say(f"{count}\n") or self.answer()

    def stop(self) -> None:
        """End it."""
        self._say("\n")
        self.process.wait()

    def _say(self, text: str) -> None:
        if self.process.stdin:
            self.process.stdin.write(text)
            self.process.stdin.flush()
