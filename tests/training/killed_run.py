"""Trains with checkpoints in a process of its own and, if told to, kills itself: `killed_run.py DIRECTORY STEPS
[KILL_AT]`."""

import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from jaxrecipe.training.loop import fit


def main() -> None:
    directory, steps, *kill_at = sys.argv[1:]

    def write(step: int, metrics: Mapping[str, float]) -> None:
        if kill_at and step == int(kill_at[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    spec = importlib.util.spec_from_file_location("set_up", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task = module.the_task()
    done = fit(task, steps=int(steps), checkpoints=directory, save_every=3, write=write)
    sys.stdout.write(str(done.resumed_from))


if __name__ == "__main__":
    main()
