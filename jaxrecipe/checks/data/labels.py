"""Labels: what the loss gets as targets is coded as declared, and there is something to learn."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.heads import all_heads
from jaxrecipe.probes.reading import copes, readable_rows, splits
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Histogram, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, Head, MultiLabel, Tokens, Unspecified, Values

_result = partial(unsorted_result, name="labels", stage="data")
FEW_COLUMNS = 16
"""Values an example up to which each column is looked at alone: more are pictures or sequences."""
MOST_CLASSES = 100
"""Different values up to which real numbers may be class numbers: pictures have more."""
MOST_SORTED = 2**20
"""Labels of which the different ones are counted."""


def labels(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    least: int = 20,
    empty_warn: float = 0.9,
    padding_warn: float = 0.9,
    tail_warn: float = 0.9,
) -> Result:
    """Labels are in range, coded as declared, and not all alike.

    What it does: reads the targets of every split after preparation, head by head, and compares them with the declared target. Classes:
    out of range, all the same, in steps (0, 10, 20), counted from 1, masks of a single class. Yes or no: out of range, all
    the same, always exactly one of several. Values: not finite, all the same, class numbers divided by 255, a variance that a
    few examples make alone. Tokens: out of the vocabulary, mostly padding, padding that is not declared.

    Why it matters: JAX takes another class for a label that is out of range, without a word; labels that went through the scaling
    of the images are all 0, and the loss still falls.

    What to do: follow the hint to where the labels are made; the table says which values there are.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        least: examples below which nothing is said about labels that are all alike.
        empty_warn: WARN when more than this share of the masks holds one class only, or of the rows no positive label: then
            answering "nothing" is right nearly everywhere.
        padding_warn: WARN when more than this share of the tokens is padding: most of the computation is for nothing.
        tail_warn: WARN when the hundredth of the examples that deviate most makes more than this share of the variance: a squared
            error is then about these alone. It is 0.1 for a normal distribution and about 0.5 for a log-normal one.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    limits = {"least": least, "empty": empty_warn, "padding": padding_warn, "tail": tail_warn}
    findings, rows, charts, measured = [], [], [], {}
    for split in splits(setup):
        read = readable_rows(setup, split, targets_only=True)
        for head in all_heads(setup, split, read):
            where = f"{split}, {head.path}: " if head.path else f"{split}: "
            finite = _finite_rows(head.targets)
            if not finite.all():
                bad = read[~finite]
                if not copes(setup, split, bad):
                    text = f"{where}{len(bad)} of {len(read)} targets are not finite, first in example {bad[0]}."
                    findings.append(Finding(Status.FAIL, text, NOT_FINITE))
                head = head._replace(targets=head.targets[finite])
            findings += [one._replace(text=where + one.text) for one in _of_head(head, limits)]
            rows.append((split, head.path or "targets", *_row(head)))
            measured[f"{where}different labels"] = rows[-1][-1]
            charts += _drawn(where, head)
    if all(row[2] == "Unspecified()" for row in rows) and not findings:
        finding = "No target is declared, so it is not known what labels should be."
        return _result(status=Status.SKIP, finding=finding, hint="Declare what is predicted, as target=jr.Classes(10).")
    columns = ("split", "target", "declared", "dtype and shape", "lowest", "highest", "different values")
    passed = "; ".join(
        f"{row[0]}{'' if row[1] == 'targets' else f' {row[1]}'} {row[6]} different, {row[4]:g} to {row[5]:g}"
        for row in rows
    )
    return concluded(
        _result,
        findings,
        f"The labels are as declared: {passed}.",
        measured=measured,
        expected=dict.fromkeys(measured, "2 or more"),
        evidence=[Table(title="Labels", columns=columns, rows=rows), *charts],
    )


NOT_FINITE = "The loss is NaN with these. Drop the examples, or mask them in the loss; look for a division by zero or a missing value in the code that makes the labels."
CONSTANT = "There is nothing to learn from these. Look for labels that were scaled like the images (y / 255 as an integer is 0), read from the wrong column, or cut from data that are sorted by label."
OUT_OF_RANGE = "JAX takes another class for these without a word. Correct the labels, or the declared number."
FROM_ONE = "The labels seem to count from 1: subtract 1 in prepare, and declare one class less. As it is, one output is never right."
IN_STEPS = "The labels are class numbers times a factor (as in masks stored as grey levels): divide by it, so that classes are 0, 1, 2, ..."
DIVIDED = "These are class numbers divided by 255: the scaling of the images was applied to the labels too. Scale the inputs only."
EMPTY = "Answering with this alone is right nearly everywhere. Look at the masks: were they drawn, resized and thresholded as meant? Sample the examples that show something more often."
ALL_SINGLE = "Is the label of the whole image spread over its mask, or the mask read from the wrong file?"
EXACTLY_ONE = "Labels that exclude each other are one label of several classes: declare jr.Classes(n) with a softmax. Independent yes-or-no outputs do not know that only one can be right."
HEAVY = "A squared error is about these few alone. Are they right? If so predict the logarithm, clip them, or take a robust loss (Huber)."
SOME_CONSTANT = "Nothing can be learnt about these columns: leave them out, or look for where they were lost."
PADDING = "Most of the computation is for nothing: sort by length, cut to the longest of a batch, or pack several examples into a row."
ONLY_PADDING = "There is nothing to learn from these rows, and a mean over their tokens divides by zero: drop them."
UNDECLARED = "If this is padding, ignore it in the loss and declare it, jr.Tokens(vocabulary, pad=...): otherwise the model learns to predict padding and is praised for it."
UNUSED = "The vocabulary is much larger than the text needs: were the tokens made with this vocabulary? Every unused token costs parameters and is pushed down at every step."


def _of_head(head: Head, limits: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong with the finite labels of one head."""
    labels, target = head.targets, head.target
    if not labels.size:
        return
    if isinstance(target, Unspecified | Values) and labels.size == len(labels) and _divided(labels):
        yield Finding(
            Status.FAIL, f"the targets are whole numbers divided by 255, up to {float(labels.max()):.3g}.", DIVIDED
        )
    if isinstance(target, Unspecified):
        return
    outside = _outside(head)
    if outside.any():
        first = int(np.flatnonzero(outside.reshape(len(labels), -1).any(axis=1))[0])
        text = f"{int(outside.sum())} of {labels.size} labels are out of range ({float(labels.min()):g} to {float(labels.max()):g} where {target} is declared), first in row {first}."
        yield Finding(Status.FAIL, text, DIVIDED if _divided(labels) else OUT_OF_RANGE)
        return
    if len(labels) >= limits["least"] and (labels == labels.flat[0]).all():
        yield Finding(
            Status.FAIL, f"all {len(labels)} examples have the same label, {float(labels.flat[0]):g}.", CONSTANT
        )
        return
    match target:
        case Classes(n=n):
            yield from _of_classes(labels, n, limits)
        case MultiLabel():
            yield from _of_many(labels, limits)
        case Values():
            yield from _of_values(labels.reshape(len(labels), -1), limits)
        case Tokens():
            yield from _of_tokens(labels, target, limits)


def _of_classes(labels: np.ndarray, n: int, limits: dict[str, Any]) -> Iterator[Finding]:
    """Class numbers that are in range and not all the same."""
    seen = np.flatnonzero(np.bincount(labels.ravel(), minlength=n))
    step = int(np.gcd.reduce(seen))
    if step > 1 and (len(seen) > 2 or step >= 10):
        listed = ", ".join(map(str, seen[:5]))
        yield Finding(Status.FAIL, f"of {n} declared classes only multiples of {step} occur ({listed}, ...).", IN_STEPS)
    elif n > 2 and len(seen) == n - 1 and seen[0] == 1:
        yield Finding(Status.WARN, f"all classes from 1 to {n - 1} occur and class 0 never does.", FROM_ONE)
    if labels.ndim < 2 or labels[0].size < 2:
        return
    flat = labels.reshape(len(labels), -1)
    single = (flat == flat[:, :1]).all(axis=1)
    if single.all():
        yield Finding(Status.FAIL, f"each of the {len(flat)} masks holds one class only.", ALL_SINGLE)
        return
    most = int(np.bincount(flat[single, 0], minlength=n).argmax()) if single.any() else 0
    share = float((single & (flat[:, 0] == most)).mean())
    if share > limits["empty"]:
        yield Finding(Status.WARN, f"{share:.1%} of the masks hold nothing but class {most}.", EMPTY)


def _of_many(labels: np.ndarray, limits: dict[str, Any]) -> Iterator[Finding]:
    """Several labels of yes or no an example."""
    positive = labels.sum(axis=1)
    if labels.shape[1] > 2 and len(labels) >= limits["least"] and (positive == 1).all():
        text = f"each of the {len(labels)} examples has exactly one positive label of {labels.shape[1]}."
        yield Finding(Status.WARN, text, EXACTLY_ONE)
    empty = float((positive == 0).mean())
    if empty > limits["empty"]:
        yield Finding(Status.WARN, f"{empty:.1%} of the examples have no positive label.", EMPTY)


def _of_values(values: np.ndarray, limits: dict[str, Any]) -> Iterator[Finding]:
    """Real numbers, `[examples, columns]`."""
    if values.shape[1] > FEW_COLUMNS or len(values) < limits["least"]:
        return
    constant = np.flatnonzero((values == values[:1]).all(axis=0))
    if constant.size:
        text = f"{constant.size} of {values.shape[1]} columns hold one number only (columns {constant[:8].tolist()})."
        yield Finding(Status.WARN, text, SOME_CONSTANT)
    squares = np.square(values.astype(np.float64) - values.mean(axis=0, dtype=np.float64))
    few = max(1, len(values) // 100)
    total = np.maximum(squares.sum(axis=0), np.finfo(np.float64).tiny)
    shares = np.sort(squares, axis=0)[-few:].sum(axis=0) / total
    column = int(shares.argmax())
    if shares[column] > limits["tail"] and len(values) >= 5 * limits["least"]:
        which = np.argsort(squares[:, column])[::-1][:5].tolist()
        text = f"{few} of {len(values)} targets make {shares[column]:.1%} of the variance (rows {which})."
        yield Finding(Status.WARN, text, HEAVY)


def _of_tokens(tokens: np.ndarray, target: Tokens, limits: dict[str, Any]) -> Iterator[Finding]:
    """Tokens `[examples, time]` that are in the vocabulary."""
    padding = np.zeros(tokens.shape, bool) if target.pad is None else tokens == target.pad
    if padding.mean() > limits["padding"]:
        yield Finding(Status.WARN, f"{padding.mean():.1%} of the tokens are padding.", PADDING)
    blank = np.flatnonzero(padding.all(axis=1))
    if blank.size:
        text = f"{blank.size} of {len(tokens)} rows hold nothing but padding (rows {blank[:5].tolist()})."
        yield Finding(Status.WARN, text, ONLY_PADDING)
    token, share = _trailing(tokens)
    if target.pad is None and share > 0.5 and len(tokens) >= limits["least"]:
        text = f"{share:.0%} of the rows end in token {token}, two to many times in a row, and no padding is declared."
        yield Finding(Status.WARN, text, UNDECLARED)
    used = np.count_nonzero(np.bincount(tokens[~padding], minlength=target.vocabulary))
    if used < 0.1 * target.vocabulary and tokens[~padding].size > 100 * target.vocabulary:
        yield Finding(Status.WARN, f"only {used} of {target.vocabulary} tokens of the vocabulary occur.", UNUSED)


def _trailing(tokens: np.ndarray) -> tuple[int, float]:
    """The token that most rows end in at least twice in a row, and the share of these rows; 0 where the runs are all equally long."""
    if tokens.shape[1] < 3:
        return 0, 0.0
    last = tokens[:, -1]
    runs = np.argmin(
        np.concatenate([(tokens == last[:, None])[:, ::-1], np.zeros((len(tokens), 1), bool)], axis=1), axis=1
    )
    values, counts = np.unique(last[runs > 1], return_counts=True)
    if not values.size:
        return 0, 0.0
    token = values[counts.argmax()]
    lengths = runs[(last == token) & (runs > 1)]
    return int(token), float(counts.max() / len(tokens)) if len(np.unique(lengths)) > 2 else 0.0


def _outside(head: Head) -> np.ndarray:
    """Which labels the declared target does not allow."""
    labels = head.targets
    match head.target:
        case Classes(n=n):
            allowed = (labels >= 0) & (labels < n)
        case Tokens(vocabulary=n, pad=pad):
            allowed = (labels >= 0) & (labels < n) | (labels == (0 if pad is None else pad)) & (pad is not None)
        case Binary() | MultiLabel():
            allowed = (labels == 0) | (labels == 1)
        case _:
            allowed = np.ones(labels.shape, bool)
    return np.logical_not(allowed)


def _divided(labels: np.ndarray) -> bool:
    """Whether labels are 0, 1, 2, ..., each divided by 255."""
    if not trees.is_floating(labels) or labels.size < 2:
        return False
    values = np.unique(labels.astype(np.float64))
    if not 2 <= len(values) <= MOST_CLASSES:
        return False
    return bool(np.abs(values * 255 - np.arange(len(values))).max() < 1e-3)


def _finite_rows(labels: np.ndarray) -> np.ndarray:
    """Which examples have finite labels only."""
    if not trees.is_inexact(labels):
        return np.ones(len(labels), bool)
    return np.asarray(np.isfinite(labels).reshape(len(labels), -1).all(axis=1))


def _row(head: Head) -> tuple[Any, ...]:
    """One line of the table: what is declared, the form, the range and how many different values there are."""
    labels = head.targets
    low, high = (float(labels.min()), float(labels.max())) if labels.size else (float("nan"), float("nan"))
    return (
        str(head.target),
        f"{labels.dtype}{list(labels.shape)}",
        low,
        high,
        len(np.unique(labels.ravel()[:MOST_SORTED])),
    )


def _drawn(where: str, head: Head) -> list[Histogram]:
    """Distribution of real numbers, and of the lengths of padded rows; classes are drawn with their balance."""
    match head.target:
        case Values() if head.targets.size:
            values, x_label = head.targets.ravel()[:MOST_SORTED].astype(np.float64), "value"
        case Tokens(pad=pad) if pad is not None:
            values, x_label = (head.targets != pad).sum(axis=1), "tokens a row without padding"
        case _:
            return []
    counts, edges = np.histogram(values, bins=40)
    return [Histogram(title=f"{where}targets", edges=edges, counts={x_label: counts}, x_label=x_label)]
