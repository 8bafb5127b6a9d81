"""Class balance: every declared class is there, in both splits, and accuracy is not bought by naming the commonest."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe.probes.heads import head_chunks
from jaxrecipe.probes.reading import splits
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Histogram, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Binary, Classes, Head, MultiLabel

_result = partial(unsorted_result, name="class_balance", stage="data")
RARE = 0.1
"""A class may be this much rarer than its even share before its absence is judged."""
ODDS = 3.0
"""Odds ratio between the splits above which a difference matters: less is common between two collections."""
LISTED = 100
"""Classes that the table lists at most."""


@dataclass
class Counted:
    """How often the classes of one head occur in one split; for `MultiLabel` how often each label is positive.

    Attributes:
        examples: how many examples were read.
        labels: how many labels, more than the examples for masks.
        times: labels of each class, `[classes]`.
        holding: examples that hold each class, `[classes]`.
    """

    examples: int
    labels: int
    times: Int[np.ndarray, "classes"]
    holding: Int[np.ndarray, "classes"]

    @property
    def shares(self) -> np.ndarray:
        """Share of the labels that each class has."""
        return self.times / max(1, self.labels)

    def unseen(self, *, above: float) -> float:
        """Probability that a class which occurs in this share of the examples is in none of them."""
        return float((1.0 - above) ** self.examples)


Both = dict[Split, Counted]
"""The counts of one head in each split."""


def class_balance(
    setup: Setup, *, key: PRNGKeyArray, chance: float = 1e-3, majority_warn: float = 0.95, ratio_warn: float = 100.0
) -> Result:
    """Every declared class occurs, alike in both splits, and naming the commonest class always is no great score.

    What it does: counts the classes of every head with classes, split by split: examples, or pixels of masks, or positives of each of
    several labels. A declared class that is missing from the training data fails where there are so many examples that chance
    cannot have left out even a class ten times rarer than its even share. A class missing from the test data only, or a distribution that
    differs between the splits by more than chance and by odds of three to one, is a warning. So is extreme imbalance where accuracy is the metric.

    Why it matters: a class that is never seen is never predicted, and the accuracy on the others hides it; of data with one class in 97
    of 100 examples a model that has learnt nothing has an accuracy of 97 %.

    What to do: count the classes after every step that loads, filters and splits; split at random within each class. For real imbalance
    put the prior into the final bias, and judge by balanced accuracy, F1 or the loss.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        chance: an absence (or, of the difference between the splits, a thousandth of it) is told when chance makes it less probable than this.
        majority_warn: WARN when accuracy is the metric and the commonest class alone has more than this share.
        ratio_warn: WARN when accuracy is the metric and the commonest class is this many times as frequent as the rarest.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data" and "init well".
    """
    del key
    counted: dict[Split, dict[str, tuple[Any, Counted]]] = {split: _count(setup, split) for split in splits(setup)}
    heads = {path: target for path, (target, _) in counted["train"].items()}
    if not heads:
        finding = "No head of the target has classes that could be counted."
        return _result(
            status=Status.SKIP, finding=finding, hint="Declare classes, target=jr.Classes(10), where there are some."
        )
    findings: list[Finding] = []
    evidence: list[Evidence] = []
    measured: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for path, target in heads.items():
        where = f"{path}: " if path else ""
        both: Both = {split: heads_of[path][1] for split, heads_of in counted.items() if path in heads_of}
        accuracy = f"{path}/accuracy".lstrip("/") in setup.task.all_metrics
        found = [*_missing(target, both, chance), *_different(both, chance)]
        found += _imbalanced(target, both["train"], majority_warn, ratio_warn) if accuracy else []
        findings += [one._replace(text=where + one.text) for one in found]
        evidence += _drawn(where, both)
        train = both["train"]
        measured |= {
            f"{where}classes in the training data": int((train.times > 0).sum()),
            f"{where}share of the commonest class": float(_commonest(target, train)),
        }
        expected |= dict(zip(list(measured)[-2:], (len(train.times), f"up to {majority_warn:g}"), strict=True))
    return concluded(
        _result, findings, _passed(heads, counted["train"]), measured=measured, expected=expected, evidence=evidence
    )


MISSING = "It can never be predicted. Look for a filter, a label map or a split that loses it (data sorted by class and cut in two), labels that count from 1, or a declared number of classes that is too large."
ABSENT = "Nothing is measured about it. Split at random within each class, or evaluate on more examples."
UNLEARNABLE = "There is nothing to tell about a label that is the same everywhere: look for where its other value was lost, or leave it out."
DIFFERENT = "Splits drawn at random do not differ so much. Was one of them filtered, resampled or relabelled? If resampling is meant, correct the outputs for the prior that the test data have."
IMBALANCED = "Naming the commonest class is nearly right, so accuracy says little: judge by balanced accuracy, F1 or the loss, put the prior into the final bias, and weight or resample the rare classes if they matter."


def _count(setup: Setup, split: Split) -> dict[str, tuple[Any, Counted]]:
    """The counts of every head with classes, over all the examples that are read."""
    counts: dict[str, tuple[Any, Counted]] = {}
    for _, found in head_chunks(setup, split):
        for head in found:
            size = {Classes: getattr(head.target, "n", 0), Binary: 2, MultiLabel: getattr(head.target, "n", 0)}.get(
                type(head.target)
            )
            if size is None:
                continue
            if head.path not in counts:
                counts[head.path] = head.target, Counted(0, 0, np.zeros(size, np.int64), np.zeros(size, np.int64))
            _add(counts[head.path][1], head)
    return counts


def _add(counted: Counted, head: Head) -> None:
    """Count the labels of some examples; what is out of range is left to another check."""
    labels, size = head.targets.reshape(len(head.targets), -1), len(counted.times)
    counted.examples += len(labels)
    if isinstance(head.target, MultiLabel):
        counted.labels += len(labels)
        counted.times += (labels == 1).sum(axis=0)
        counted.holding += (labels == 1).sum(axis=0)
        return
    counted.labels += labels.size
    numbers = np.where((labels >= 0) & (labels < size), labels, size).astype(np.int64)
    by_example = numbers + (size + 1) * np.arange(len(numbers))[:, None]
    table = np.bincount(by_example.ravel(), minlength=len(numbers) * (size + 1)).reshape(len(numbers), -1)[:, :size]
    counted.times += table.sum(axis=0)
    counted.holding += (table > 0).sum(axis=0)


def _missing(target: Any, both: Both, chance: float) -> Iterator[Finding]:
    """Classes that a split does not have."""
    train = both["train"]
    many = isinstance(target, MultiLabel)
    even = float(np.median(train.shares)) if many else 1.0 / len(train.times)
    certain, odd = train.unseen(above=RARE * even), len(train.times) * train.unseen(above=even)
    gone = np.flatnonzero(train.holding == 0)
    if gone.size and min(certain, odd) < chance:
        status = Status.FAIL if certain < chance else Status.WARN
        what = "labels are never positive" if many else "declared classes never occur"
        yield Finding(
            status,
            f"{gone.size} of {len(train.times)} {what} in {train.examples} training examples: {_listed(gone)}.",
            MISSING,
        )
    full = np.flatnonzero(train.times == train.labels) if many else np.empty(0, np.int64)
    if full.size and certain < chance:
        yield Finding(
            Status.WARN, f"{full.size} labels are positive in every training example: {_listed(full)}.", UNLEARNABLE
        )
    if "test" not in both:
        return
    share = train.holding / max(1, train.examples)
    absent = np.flatnonzero((both["test"].holding == 0) & (len(share) * (1 - share) ** both["test"].examples < chance))
    if absent.size:
        text = f"{absent.size} classes of the training data never occur in {both['test'].examples} test examples: {_listed(absent)}."
        yield Finding(Status.WARN, text, ABSENT)


def _different(both: Both, chance: float) -> Iterator[Finding]:
    """Whether some class is far commoner in one split than in the other: a binomial test by examples that hold it."""
    if "test" not in both:
        return
    train, test = both["train"], both["test"]
    p, q = train.holding / max(1, train.examples), test.holding / max(1, test.examples)
    pooled = (train.holding + test.holding) / (train.examples + test.examples)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / train.examples + 1 / test.examples))
    # With ten expected on either side the normal approximation holds far enough out.
    enough = pooled * min(train.examples, test.examples) >= 10
    limit = np.sqrt(2 * np.log(len(p) * 1000 / max(chance, 1e-300)))
    factor = np.maximum(p, 1e-12) / np.maximum(q, 1e-12)
    odd = np.flatnonzero(
        enough & (np.abs(p - q) > limit * spread) & ((factor > 3) | (factor < 1 / 3)) & (p > 0) & (q > 0)
    )
    if odd.size:
        worst = int(odd[np.argmax(np.abs(np.log(factor[odd])))])
        text = f"class {worst} is in {p[worst]:.1%} of the training examples and {q[worst]:.1%} of the test examples."
        yield Finding(Status.WARN, text, DIFFERENT)


def _imbalanced(target: Any, train: Counted, majority_warn: float, ratio_warn: float) -> Iterator[Finding]:
    """Imbalance that makes accuracy say nothing."""
    share = _commonest(target, train)
    if share > majority_warn:
        what = "no to every label" if isinstance(target, MultiLabel) else f"class {int(train.times.argmax())}"
        text = f"answering {what} always has an accuracy of {share:.1%} on the training data."
        yield Finding(Status.WARN, text, IMBALANCED)
        return
    seen = train.times[train.times > 0]
    if not isinstance(target, MultiLabel) and seen.size > 1 and seen.max() > ratio_warn * seen.min():
        text = f"the commonest class is {seen.max() / seen.min():.0f} times as frequent as the rarest ({seen.max()} to {seen.min()})."
        yield Finding(Status.WARN, text, IMBALANCED)


def _commonest(target: Any, counted: Counted) -> float:
    """Accuracy of the best constant answer."""
    if isinstance(target, MultiLabel):
        return float(np.maximum(counted.shares, 1 - counted.shares).mean())
    return float(counted.shares.max())


def _passed(heads: dict[str, Any], counted: dict[str, tuple[Any, Counted]]) -> str:
    parts = []
    for path, target in heads.items():
        found = counted[path][1]
        what = "labels, positive" if isinstance(target, MultiLabel) else "classes,"
        parts.append(
            f"{f'{path} ' if path else ''}{len(found.times)} {what} {found.times.min()} to {found.times.max()} times"
        )
    return f"Every class is there: {'; '.join(parts)}."


def _listed(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes[:8].tolist())) + (", ..." if len(classes) > 8 else "")


def _drawn(where: str, both: Both) -> list[Evidence]:
    """Counts of the classes of one head, as bars and as a table."""
    size = len(both["train"].times)
    bars = Histogram(
        title=f"{where}labels of each class",
        edges=np.arange(size + 1) - 0.5,
        counts={split: counted.times for split, counted in both.items()},
        x_label="class",
    )
    order = np.argsort(both["train"].times, kind="stable")[:LISTED]
    columns = ["class"] + [
        f"{what}, {split}" for split in both for what in ("labels", "share of the labels", "examples")
    ]
    rows = [
        (int(one), *(v for c in both.values() for v in (int(c.times[one]), float(c.shares[one]), int(c.holding[one]))))
        for one in order
    ]
    return [bars, Table(title=f"{where}classes, the rarest first", columns=columns, rows=rows)]
