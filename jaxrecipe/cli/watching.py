"""`jaxrecipe watch`: a script is run as it is, and the training step that is seen in it becomes a task."""

import argparse
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxrecipe.adapters.watching import Recording, ScriptEnded, Seen, Watch, hooked, recorded_step
from jaxrecipe.adapters.watching.seen import Verdict, steps_among, verdict_of
from jaxrecipe.adapters.watching.watch import NAMED
from jaxrecipe.cli.loading import UsageError
from jaxrecipe.cli.script import Script, as_main, execute, find_script, own_traceback
from jaxrecipe.task import Task

MOST_BYTES = 256 * 1024**2
"""Bytes of batches that are kept: enough for 32 batches of 64 colour images of 180 by 180."""
MOST_SHOWN = 12
"""Functions that a message lists."""
PATIENCE = 5.0
"""Seconds for which threads of the script are waited for when all is said."""


@dataclass(frozen=True)
class Watched:
    """What came of a script.

    Attributes:
        task: the training step that was found, as a task.
        step: what was seen of it.
        others: other functions that may be a training step.
    """

    task: Task
    step: Verdict
    others: tuple[Verdict, ...]


@contextmanager
def watched(options: argparse.Namespace, tell: Callable[[str], None]) -> Iterator[Watched]:
    """Run a script and make a task of its training step; the script's modules stay at hand while it is used.

    Raises:
        UsageError: there is no script, it raised, or no training step was seen; says what was seen and what to do.
    """
    script = find_script(options.script, module=options.module)
    module, _, name = (options.step or "").rpartition(":")
    watch = Watch(batches=options.batches, most_bytes=MOST_BYTES, by_name=options.step is not None, go_on=options.go_on)
    with as_main(script, options.arguments) as main:
        with hooked(watch, (module, name) if module else None):
            how = _run(script, lambda: execute(script, main, None if module else name or None, marker(watch)), watch)
        recordings = [record.recording() for record in watch.records]
        watch.records.clear()
        found = _steps(recordings, watch, options)
        if how:
            tell(how)
        yield Watched(_task_of(found[0], options), found[0], tuple(found[1:]))


def marker(watch: Watch) -> Callable[[Any], Any]:
    """What is put around the function that the user named."""
    return lambda function: watch.wrapped(function, function, NAMED) if callable(function) else function


def _run(script: Script, run: Callable[[], None], watch: Watch) -> str:
    """Run the script to its end or to ours, and say in words how it ended, where that is not by us.

    Raises:
        UsageError: it raised.
        KeyboardInterrupt: the user ended it.
    """
    try:
        run()
    except ScriptEnded:
        return ""
    except (UsageError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        return "" if watch.ended else f"{script.name} ended by sys.exit({error.code!r})"
    except BaseException as error:
        if watch.ended and not watch.go_on:
            return ""  # it came of our ending the script
        sys.stderr.write(own_traceback(error, script))
        seen = _listed([record.recording() for record in watch.records], watch)
        raise UsageError(
            f"{script.name} raised {type(error).__name__} (above) before jaxrecipe had seen enough of its training. "
            f"{seen} See to it that the script runs by itself first."
        ) from None
    return "" if watch.ended else f"{script.name} ran to its end"


def _steps(recordings: Sequence[Recording], watch: Watch, options: argparse.Namespace) -> list[Verdict]:
    """The functions that may be the training step, the likeliest first.

    Raises:
        UsageError: there is none.
    """
    if found := steps_among(recordings, gradients=bool(watch.gradients), by_name=watch.by_name):
        return found
    seen, advice = _listed(recordings, watch), _advice(recordings, watch, options)
    raise UsageError(f"no training step was seen in {options.script}. {seen} {advice}")


def _advice(recordings: Sequence[Recording], watch: Watch, options: argparse.Namespace) -> str:
    """What to do where no step was seen."""
    seen = {verdict_of(one).seen for one in recordings}
    if not recordings and options.step:
        return f"{options.step} was never called."
    if not recordings and not watch.gradients:
        return "No function compiled by jax.jit, nnx.jit, eqx.filter_jit or pmap was called."
    if Seen.NOTHING in seen:
        lost = any(one.objects and "nnx" not in one.kind for one in recordings)
        return _ADVICE_FOR_LOST_OBJECTS if lost else _ADVICE_FOR_LOST_STATE
    if seen == {Seen.ONCE} or any(one.differentiates and verdict_of(one).seen is Seen.ONCE for one in recordings):
        return (
            "A step must be called twice at least. Have the script take more steps; where the whole training is one "
            "compiled function, give its inner step to jr.Task.from_step(step, state, batches)."
        )
    if Seen.OUTSIDE in seen or watch.gradients or any(one.differentiates for one in recordings):
        return _ADVICE_FOR_PLAIN_STEPS
    return "None of them gives back, or changes, a state that the next call is given."


_ADVICE_FOR_LOST_STATE = (
    "Have the step return the new state, and give that to the next call: nothing is learnt as it is."
)
_ADVICE_FOR_LOST_OBJECTS = (
    "A function that jax.jit compiled is given copies of Flax NNX objects, so that what it changes in them is lost and "
    "nothing is learnt: compile it by nnx.jit, or return the objects and go on with those."
)
_ADVICE_FOR_PLAIN_STEPS = (
    "The step seems to be plain Python around a function that gives gradients: put gradient and update into one "
    "function that is given the state and returns the new one, and name it by --step NAME (or --step module:NAME), "
    "compiled or not; or give it to jr.Task.from_step(step, state, batches)."
)


def _listed(recordings: Sequence[Recording], watch: Watch) -> str:
    """What was seen, a line each."""
    rows = [f"{one.name} ({one.kind}; {one.where}): {_times(one.seen)}; {verdict_of(one).seen}" for one in recordings]
    rows += [
        f"gradient of {name}, not in a compiled function: {_times(count)}" for name, count in watch.gradients.items()
    ]
    if not rows:
        return "Nothing that it compiled was called."
    more = [f"and {len(rows) - MOST_SHOWN} more"] if len(rows) > MOST_SHOWN else []
    return "Seen were:\n    " + "\n    ".join(rows[:MOST_SHOWN] + more) + "\n "


def _times(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _task_of(verdict: Verdict, options: argparse.Namespace) -> Task:
    """The step as a task.

    Raises:
        UsageError: it cannot be one.
    """
    targets = options.targets or True
    try:
        bare = recorded_step(verdict.recording, targets=targets, loss=options.loss)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    return Task(train=bare.batches.examples, batch_size=bare.batches.size, name=bare.name, loop=bare.loop)


def leave_threads_behind() -> bool:
    """Wait a little for threads of the script that would keep Python from ending; whether some are left."""
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]
    for one in others:
        one.join(PATIENCE / len(others))
    return any(one.is_alive() for one in others)
