"""Human baseline: what a person scores on the test data, beside what takes no skill at all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.report.result import Result, Status, Table, skipped
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Head, heads
from jaxrecipe.training.intervals import Estimate, mean_interval, wilson

BYTES = 2**27
"""Examples of one split that are read are not larger than this together."""
WORDS = 1024
"""Tokens are counted in so many bins."""
MOST_COMMON = "the most common answer"
"""What the baseline is called that always says it."""


def human_baseline(setup: Setup, *, key: PRNGKeyArray, examples: int = 2000, precision: float = 0.03) -> Result:
    """A person beats guessing and a linear model, and leaves a gap that the model has to close.

    What it does: compares the accuracy that you declare for a person (`Task(human=0.97)`) with guessing, with always
    saying the most common class, and with a linear model (ridge regression on the plain inputs, or on counts of tokens)
    that takes a second to fit. Prints the gap that is left for the model. Without a figure it says how many examples to
    label to get one.

    Why it matters: accuracy means nothing without knowing what is hard. A person far above the linear model says that
    there is something to learn; a person below it says that labels, metric or figure are not what they seem.

    What to do: label a random sample of the test examples without looking at their labels, and divide the number that
    agree by the size of the sample; or have the test set labeled twice, and take the second as the prediction.

    Args:
        setup: the set-up.
        key: not used; nothing here is random.
        examples: at most so many of each split are read; 2,000 tell an accuracy to two percentage points.
        precision: the half-width of the 95 % interval for which the number of examples to label is worked out.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "human baseline".
    """
    del key
    human = setup.task.human
    head = _labeled_head(setup)
    if head is None:
        return skipped(
            "Nothing is declared that a person could be right or wrong about: an accuracy needs target Classes, "
            "Binary, MultiLabel or Tokens, at one head."
        )
    if human is None:
        return _how_to_get_one(setup, precision)
    if not 0 <= human <= 1:
        share = Measure(name="a person's accuracy", value=human, low=0.0, high=1.0, code="data/human-figure-no-share")
        message = f"The accuracy of a person is given as {human:g}."
        return Result(summary=message, findings=(failure("data/human-figure-no-share", message, measures=(share,)),))
    return _compared(float(human), _baselines(setup, head, examples), 1 / _classes(head))


def _classes(head: Head) -> int:
    """Among how many answers one chooses."""
    return head.behavior.classes(head.target) or 1


def _labels(head: Head, targets: Any) -> np.ndarray:
    """The labels of this head, `[batch, ...]` integers, -1 where one does not count."""
    for name in head.keys:
        targets = targets[name]
    labels = head.behavior.labels(head.target, targets)
    return np.full(np.shape(targets), -1) if labels is None else labels


class Baseline(NamedTuple):
    """What takes no skill: its name, and its accuracy with interval."""

    name: str
    accuracy: Estimate


def _labeled_head(setup: Setup) -> Head | None:
    """The one head that has labels; None where there is none, or several."""
    found = [head for head in heads(setup.task.target) if head.behavior.labeled]
    return found[0] if len(found) == 1 else None


def _how_to_get_one(setup: Setup, precision: float) -> Result:
    """How many examples to label for an interval of that width."""
    size = (setup.test or setup.train).size

    def half_width(n: int) -> float:
        found = wilson(round(0.95 * n), n)
        return (found.high - found.low) / 2

    enough = next((n for n in range(20, 20_000, 10) if half_width(n) <= precision), 20_000)
    rows = [(n, round(100 * half_width(n), 1)) for n in (50, 100, 200, 400, 1000)]
    limit = f"; there are only {size}: label them all" if size < enough else ""
    return Result(
        summary=f"No figure for a person is declared (Task(human=...)). Label {enough} random test examples without "
        f"seeing their labels: that gives an accuracy near 95 % to ±{100 * precision:g} percentage points (95 % "
        f"interval){limit}. Then give Task(human=right / labeled).",
        ended=Status.SKIP,
        measures=(Measure(name="examples to label", value=enough, unit="examples"),),
        evidence=(
            Table(title="Examples to label", columns=("examples", "± percentage points at 95 % right"), rows=rows),
        ),
    )


def _baselines(setup: Setup, head: Head, examples: int) -> list[Baseline]:
    """The most common answer of the training data and, where an example has one label or row of them, a linear
    model.
    """
    x, y = _sample(setup, "train", examples, head)
    if setup.test is None:
        held = len(y) // 4
        (x, y), (x_test, y_test) = (x[held:], y[held:]), (x[:held], y[:held])
    else:
        x_test, y_test = _sample(setup, "test", examples, head)
    many = head.behavior.several
    columns = y.shape[-1] if many else 1
    flat, flat_test = y.reshape(-1, columns), y_test.reshape(-1, columns)
    common = np.array([np.bincount(column[column >= 0], minlength=1).argmax() for column in flat.T])
    found = [Baseline(MOST_COMMON, _accuracy(flat_test == common, flat_test >= 0))]
    if (many or y.size == len(y)) and x.size and len(y) > 8:
        answers = flat.astype(np.float64) if many else np.eye(_classes(head))[flat[:, 0]] * (flat >= 0)
        predicted = _ridge(x, answers, x_test)
        said = predicted > 0.5 if many else predicted.argmax(axis=1)[:, None]
        found.append(Baseline("a linear model", _accuracy(said == flat_test, flat_test >= 0)))
    return found


def _accuracy(right: np.ndarray, counted: np.ndarray) -> Estimate:
    """Share of right answers; the interval is over examples, whose labels may hang together."""
    rows = counted.any(axis=1)
    shares = (right & counted)[rows].sum(axis=1) / counted[rows].sum(axis=1)
    if right.shape[1] == 1:
        return wilson(int(shares.sum()), len(shares))
    return mean_interval(shares)


def _sample(setup: Setup, split: Split, examples: int, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as rows of numbers, and labels, of at most so many examples."""
    one = trees.nbytes(setup.prepared(split, np.zeros(1, np.int64)))
    most = int(max(16, min(examples, BYTES // max(one, 1))))
    inputs, targets = setup.prepared(split, random_rows(setup, split, most))
    return _rows(inputs), _labels(head, targets)


def _rows(inputs: Any) -> Float[np.ndarray, "examples features"]:
    """Every input as a row of numbers; integer sequences (tokens) as counts."""
    parts = []
    for leaf in jax.tree.leaves(inputs):
        values = np.asarray(leaf)
        flat = values.reshape(len(values), -1)
        if np.issubdtype(values.dtype, np.integer) and values.dtype.itemsize > 1:
            counts = np.zeros((len(flat), WORDS))
            np.add.at(counts, (np.arange(len(flat))[:, None], flat % WORDS), 1.0)
            parts.append(counts)
        else:
            parts.append(flat.astype(np.float64))
    return np.nan_to_num(np.concatenate(parts, axis=1))


def _ridge(x: np.ndarray, answers: np.ndarray, x_test: np.ndarray) -> Float[np.ndarray, "examples answers"]:
    """Ridge regression, its strength chosen on a quarter of the training data, solved in the smaller dimension."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6 * (1 + np.abs(x).max())
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    held = len(x) // 4
    errors = {
        strength: np.square(_solved(x[held:], answers[held:], strength)(x[:held]) - answers[:held]).mean()
        for strength in (1e-3, 1e-1, 10.0)
    }
    return _solved(x, answers, min(errors, key=lambda strength: errors[strength]))(x_test)


def _solved(x: np.ndarray, answers: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    offset = answers.mean(axis=0)
    if x.shape[1] <= len(x):
        gram = x.T @ x
        weights = np.linalg.solve(gram + strength * len(x) * np.eye(len(gram)), x.T @ (answers - offset))
    else:
        kernel = x @ x.T
        weights = x.T @ np.linalg.solve(kernel + strength * len(x) * np.eye(len(kernel)), answers - offset)
    return lambda rows: rows @ weights + offset


def _compared(human: float, baselines: list[Baseline], chance: float) -> Result:
    """The person beside what takes no skill."""
    best = max(baselines, key=lambda baseline: baseline.accuracy.value)
    person = Measure(
        name="a person's accuracy",
        value=human,
        low=best.accuracy.low,
        fail_low=chance,
        severity=Severity.WARN,
        code="data/human-figure-doubtful",
    )
    gap = Measure(name="gap to close", value=human - best.accuracy.value)
    others = [Measure(name=one.name, value=one.accuracy.value) for one in baselines]
    rows = [("a person", human, "", "")]
    rows += [(one.name, one.accuracy.value, one.accuracy.low, one.accuracy.high) for one in baselines]
    return Result(
        summary=f"A person is right in {human:.1%}, {best.name} in {best.accuracy.value:.1%}: "
        f"the gap to close is {100 * gap.value:.1f} percentage points.",
        findings=() if person.verdict is None else (_doubtful(person, best, baselines[0], chance),),
        measures=(person, Measure(name="guessing", value=chance), *others, gap),
        evidence=(Table(title="Accuracy", columns=("who", "accuracy", "from", "to"), rows=rows),),
    )


def _doubtful(person: Measure, best: Baseline, common: Baseline, chance: float) -> Finding:
    """A person who is worse than guessing, or than what takes no skill."""
    if person.verdict is Severity.FAIL:
        message = f"A person is said to be right in {person.value:.1%}, which is less than guessing ({chance:.1%})."
        return failure("data/human-figure-doubtful", message, measures=(person,))
    message = (
        f"{best.name.capitalize()} is right in {best.accuracy.value:.1%} (95 % interval {best.accuracy.low:.1%} to "
        f"{best.accuracy.high:.1%}), a person in only {person.value:.1%}."
    )
    unbalanced = person.value < common.accuracy.low  # a metric that counts each class alike would tell them apart
    found = causes("data/human-figure-doubtful", *(["data/imbalance"] if unbalanced else []), "data/leaked-label")
    return warning("data/human-figure-doubtful", message, measures=(person,), causes=found)
