"""What `jaxrecipe demo` adds to a report: the accuracy of the healthy set-up, or what caught the planted bug."""

from dataclasses import replace

from rich.console import Console

from jaxrecipe.cli.loading import UsageError
from jaxrecipe.cli.progress import training
from jaxrecipe.data.batches import steps_per_epoch
from jaxrecipe.demo.bugs import BUGS, Bug, find_bug
from jaxrecipe.demo.digits import BATCH_SIZE, EPOCHS
from jaxrecipe.recipe import suggestion
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Status
from jaxrecipe.task import Task
from jaxrecipe.training.intervals import Estimate
from jaxrecipe.training.loop import Fit, fit


def bug_list() -> str:
    """Every bug that can be planted and what it breaks."""
    width = max(len(bug.name) for bug in BUGS)
    return "\n".join(f"{bug.name:<{width}}  {bug.breaks}" for bug in BUGS)


def find(name: str) -> Bug:
    """The bug of that name; raises UsageError when there is none."""
    try:
        return find_bug(name)
    except ValueError as error:
        near = suggestion(name.replace("-", "_"), [bug.name for bug in BUGS])
        raise UsageError(f"{error}{near}") from error


def with_accuracy(report: Report, task: Task, console: Console, *, seed: int = 0) -> Report:
    """The report with the exact accuracy on the whole test set of the task, trained to the end.

    Raises:
        KeyboardInterrupt: if the training was interrupted.
    """
    trained = trained_to_the_end(task, console, seed=seed)
    if trained.evaluation is None:
        return report
    note = f"After {EPOCHS} epochs {accuracy_in_words(trained.evaluation['accuracy'])}."
    return replace(report, notes=(*report.notes, note))


def trained_to_the_end(task: Task, console: Console, *, seed: int = 0) -> Fit:
    """`fit` on the demonstration's task for as many epochs as its schedule has, with progress on a console."""
    an_epoch = steps_per_epoch(len(task.train[1]), BATCH_SIZE)
    with training(console, steps=EPOCHS * an_epoch, every=10 * an_epoch) as write:
        trained = fit(task, epochs=EPOCHS, seed=seed, write=write)
    if trained.interrupted:
        raise KeyboardInterrupt
    return trained


def accuracy_in_words(accuracy: Estimate) -> str:
    """The share of test examples that are right, with its interval, in per cent."""
    value, low, high = (f"{100 * x:.1f}" for x in (accuracy.value, accuracy.low, accuracy.high))
    return f"exact test accuracy {value} % (95 % interval {low} to {high} %, {accuracy.n} examples)"


def with_verdict(report: Report, bug: Bug) -> Report:
    """The report with a sentence on the planted bug, on what caught it, and on whether the cause was named."""
    caught = [result.name for result in report.results if result.failed]
    warned = [result.name for result in report.results if result.status is Status.WARN]
    verdict = f"Caught by {', '.join(caught)}" if caught else "No check failed"
    notes = [f"Planted: {bug.name}. {bug.breaks}", f"{verdict}{'; warned by ' + ', '.join(warned) if warned else ''}."]
    if report.causes:
        notes.append(f"{_place_of_the_cause(report, bug)}.")
    return replace(report, notes=(*report.notes, *notes))


def _place_of_the_cause(report: Report, bug: Bug) -> str:
    """Where among the likeliest causes the planted one stands."""
    codes = [cause.code for cause in report.causes]
    places = [place for place, code in enumerate(codes, start=1) if code in bug.causes]
    if not places:
        return f"Its cause ({bug.causes[0]}) is not named"
    place = places[0]
    return f"Its cause ({codes[place - 1]}) is the {'likeliest' if place == 1 else f'number {place}'} of those named"
