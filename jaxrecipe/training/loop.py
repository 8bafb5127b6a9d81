"""`fit`: train a task from start to end, with evaluation, checkpoints and a record of every step."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from jaxrecipe.data.batches import steps_per_epoch
from jaxrecipe.data.sources import as_source
from jaxrecipe.training.checkpoints import Restored, checkpoint_writer, restore_checkpoint, set_aside
from jaxrecipe.training.evaluation import Evaluation, evaluate
from jaxrecipe.training.manifest import Facts
from jaxrecipe.training.metrics_log import Write
from jaxrecipe.training.record import Record
from jaxrecipe.training.state import TrainState
from jaxrecipe.training.steps import new_state, train_steps

if TYPE_CHECKING:
    from jaxrecipe.task import Task


@dataclass(frozen=True)
class Fit:
    """A finished (or interrupted) training run.

    Attributes:
        state: after the last step; `state.params` and `state.model_state` are what a model is used with.
        history: a name → one number a step `[steps]`: "step" (the first is 1), the step's metrics, and "seconds" since
            the start when they were known. Only the steps of this call: what ran before a resume is not in it.
        evaluations: step → exact evaluation of the test data, the last one after the last step.
        resumed_from: the checkpoint's step that this call went on from, or None.
        damaged: newer checkpoints that could not be used, each with the reason; they are renamed to `STEP.damaged`.
        interrupted: whether Ctrl-C ended the run early. Everything here is nevertheless whole, and saved if asked for.
    """

    state: TrainState
    history: Mapping[str, np.ndarray]
    evaluations: Mapping[int, Evaluation]
    resumed_from: int | None = None
    damaged: Mapping[int, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def evaluation(self) -> Evaluation | None:
        """The last evaluation, or None if there was none."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else None


def fit(
    task: "Task",
    *,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    steps_per_call: int = 1,
    resident: bool | None = None,
    evaluate_every: int | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    keep: int = 3,
    write: Write | None = None,
    give_up_after: int = 20,
) -> Fit:
    """Train a task, and evaluate it exactly on its test data at the end.

    With a directory for checkpoints, running the same call again after a kill goes on from the newest good checkpoint
    and ends with the same parameters, bit for bit on the same machine, as a run that was never interrupted. Ctrl-C ends
    the run after the step under way and returns what there is (`interrupted`); a second Ctrl-C raises at once.

    Args:
        task: the training set-up. A loop of the user's own (`Task.loop`) is not used here.
        steps: how long, counted from step 0, resumed steps included.
        epochs: the same in epochs; give one of the two.
        seed: of the parameters, of everything random in the steps, and of the order of the batches.
        state: where to start instead of a fresh state. It is copied and stays usable.
        steps_per_call: steps in one compiled call, as in `train_steps`.
        resident: training data on the device or streamed, as in `train_steps`.
        evaluate_every: evaluate each so many steps as well (at the end of the call that reaches them).
        checkpoints: directory to save to and resume from.
        save_every: save each so many steps, an epoch by default; the last state is always saved.
        keep: how many checkpoints to keep.
        write: `write(step, {name: number})`, called for each step one call behind, with "seconds" since the start, and
            for each evaluation with names under "test/". Nothing is printed otherwise.
        give_up_after: raise when so many steps in a row were skipped by the loss scale.

    Raises:
        FloatingPointError: without a loss scale, the loss or a norm is not finite; with one, too many steps in a row
            were skipped, and the message names the parameter. Parameters that are not finite are never saved.
        DamagedCheckpointError, BlockingIOError, OSError: see `checkpoint_writer` and `restore_checkpoint`.
        ValueError: arguments that contradict each other, or checkpoints of another run.
    """
    source = as_source(task.train)
    batch_size = min(task.batch_size, source.size)
    an_epoch = steps_per_epoch(source.size, batch_size)
    steps = _total_steps(steps, epochs, an_epoch)
    _check_intervals(evaluate_every=evaluate_every, save_every=save_every, give_up_after=give_up_after)
    current = new_state(task, seed=seed) if state is None else state
    facts = {"seed": seed, "batch_size": batch_size, "examples": source.size, "loss_scale": task.loss_scale.kind}
    with contextlib.ExitStack() as stack:
        save, restored = None, None
        if checkpoints is not None:
            # First the lock: what another run is writing must not be read and judged.
            save = stack.enter_context(checkpoint_writer(checkpoints, facts=facts, keep=keep))
            restored = _resume(checkpoints, current, facts)
            current = restored.state if restored else current
        saved = restored.step if restored else None
        record = Record(int(current.step), current.loss_scale.kind, give_up_after, write)
        interrupted = stack.enter_context(_interrupts())
        calls = train_steps(task, current, steps=steps, seed=seed, steps_per_call=steps_per_call, resident=resident)
        for current, metrics in stack.enter_context(contextlib.closing(calls)):
            before, now = record.expect(metrics, current)
            if save and now < steps and _reaches(save_every or an_epoch, before, now):
                record.catch_up()
                save(now, current)
                saved = now
            if task.test is not None and now < steps and evaluate_every and _reaches(evaluate_every, before, now):
                record.evaluated(evaluate(task, current.params, current.model_state))
            if interrupted():
                break
        record.catch_up()
        if save and record.step != saved:
            save(record.step, current)
    if task.test is not None and record.step == steps:
        record.evaluated(evaluate(task, current.params, current.model_state))
    return Fit(
        state=current,
        history=record.history(),
        evaluations=record.evaluations,
        resumed_from=restored.step if restored else None,
        damaged=restored.damaged if restored else {},
        interrupted=record.step < steps,
    )


def _resume(directory: str | os.PathLike[str], state: TrainState, facts: Facts) -> Restored | None:
    """The newest good checkpoint if there is one; damaged ones are put out of the way of what will be saved."""
    restored = restore_checkpoint(directory, state, facts=facts)
    if restored is None:
        return None
    if restored.step < int(state.step):
        raise ValueError(
            f"{directory} holds step {restored.step} of a run, but the given state is at step {int(state.step)}; "
            "give no state to go on from the checkpoint, or another directory"
        )
    for step in restored.damaged:
        set_aside(directory, step)
    return restored


def _total_steps(steps: int | None, epochs: int | None, an_epoch: int) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"got steps={steps} and epochs={epochs}; wanted one of the two")
    total = epochs * an_epoch if epochs is not None else steps
    if total is None or total < 0:
        raise ValueError(f"got steps={steps} and epochs={epochs}; wanted 0 or more")
    return total


def _check_intervals(**intervals: int | None) -> None:
    wrong = [f"{name}={every}" for name, every in intervals.items() if every is not None and every < 1]
    if wrong:
        raise ValueError(f"got {', '.join(wrong)}; wanted 1 or more")


def _reaches(every: int, before: int, now: int) -> bool:
    """Whether the steps after `before`, up to `now`, hold a multiple of `every`."""
    return now // every > before // every


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed, instead of letting it strike between two lines, when the old state is donated
    and the new one not yet there. Only where Python's own handler is in force; a second Ctrl-C raises as usual.
    """
    pressed = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            signal.default_int_handler(number, frame)
        pressed.set()

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed.is_set
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
