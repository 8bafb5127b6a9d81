"""Exact evaluation: the whole set, every example once, whatever the batch size and the order."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.exact_eval.mistakes import HALF, cause_of, near, sums_in_half
from jaxrecipe.checks.skeleton.exact_eval.probing import LARGE_BYTES, Asked, ask
from jaxrecipe.probes.exact_scores import (
    in_half,
    scores,
)
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, Split

_result = partial(unsorted_result, name="exact_eval", stage="skeleton")


def exact_eval(
    setup: Setup, *, key: PRNGKeyArray, tolerance: float = 2e-3, tolerance_half: float = 2e-2, large: int = 20_000
) -> Result:
    """Evaluation gives the mean over all examples, each counted once, at any batch size and in any order.

    What it does: after a few training steps asks your own `evaluate` (or the library's) for the same held-out examples in several ways: at the
    task's batch size, at a small one that does not divide their number, at one larger than the set, and in the reverse order. All must
    agree with the mean of the task's own loss and metrics of each example, computed apart in float64 at the parameters that the state holds.
    The examples are sorted by loss, so that those in the last batch are the worst: leaving them out, or giving them another weight, shows. Then
    other examples must give other numbers, and a large set made of copies the same ones. Where the numbers are wrong, those that the usual
    mistakes would give are computed too, and the mistake that fits is named. Names that the task does not know are only asked to stay the same.

    Why it matters: an evaluation that drops the last batch or averages batch means is wrong by as much as the differences that one hopes to
    see, and one on the training split looks wonderful.

    What to do: sum over the examples that count, in float32 or on the host, and divide once by their number. Pad the last batch and mask
    the padding.

    Args:
        setup: the set-up.
        key: seeds the few training steps.
        tolerance: how far two numbers may differ, relative to mean and spread of the examples; TF32 gives 1e-3.
        tolerance_half: the same when the model computes in half precision.
        large: examples of the large set, enough that a sum in half precision stops growing (at 256 in bfloat16, 2048 in float16).

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "add significant digits to your eval".
    """
    if setup.task.mixes_examples:
        return _result(
            status=Status.SKIP,
            finding="The loss compares the examples of a batch, so what it is depends on the batch size on purpose.",
            hint="To have the rest of an evaluation checked, give a task without mixes_examples and with metrics of single examples.",
        )
    split: Split = "train" if setup.test is None else "test"
    source = setup.test or setup.train
    if source.size < 3:
        return _result(
            status=Status.SKIP, finding=f"There are only {source.size} held-out examples.", hint="Give more."
        )
    asked = ask(setup, key, split, tolerance_half if in_half(setup) else tolerance, large)
    return _told(asked, _verdict(asked))


class Verdict(NamedTuple):
    """How the check ends."""

    status: Status
    finding: str
    hint: str = ""


def _verdict(asked: Asked) -> Verdict:
    """The first thing that is wrong, most telling first."""
    for look in (_random, _same_whatever_is_given, _wrong_mean, _refused, _unknown_names_vary, _shrinks_when_large):
        verdict = look(asked)
        if verdict is not None:
            return verdict
    names = ", ".join(asked.known) or "What it returns"
    whose = "Your evaluate" if asked.own else "The evaluation"
    equal = (
        " and equal the mean over the examples"
        if asked.known
        else " (no name is the task's, so there was nothing to compare with)"
    )
    return Verdict(
        Status.PASS,
        f"{whose} is exact: {names} of {len(asked.indices)} examples are the same at {len(asked.calls) - 1} batch sizes and orders{equal}.",
    )


def _random(asked: Asked) -> Verdict | None:
    first, second = asked.calls[0].values or {}, asked.calls[1].values or {}
    for name, known in asked.known.items():
        if abs(first.get(name, math.nan) - second.get(name, math.nan)) > 0.1 * asked.slack(asked.each[known]):
            return Verdict(
                Status.FAIL,
                f"The same state on the same examples scores {name} {first[name]:.4g} once and {second[name]:.4g} the next time.",
                "Evaluation is random: dropout is on, or augmentation is. Run the model in evaluation mode on the examples as they are.",
            )
    return None


def _same_whatever_is_given(asked: Asked) -> Verdict | None:
    """Other examples give the very same numbers: the evaluation has data of its own."""
    if asked.other is None or not asked.known:
        return None
    each, said = asked.other
    first = asked.calls[0].values or {}
    differ = {name for name, known in asked.known.items() if abs(each[known].mean() - asked.each[known].mean()) > 1e-6}
    if not differ or any(first.get(name) != said.get(name) or name not in said for name in differ):
        return None
    name = min(differ, key=lambda one: one != "loss")
    splits: tuple[tuple[Split, Any], ...] = (("train", asked.setup.train), ("test", asked.setup.test))
    for split, source in splits:
        if source is None:
            continue
        everything = np.arange(source.size)[: LARGE_BYTES // max(trees.nbytes(source.gather(np.zeros(1, int))), 1)]
        whole = scores(asked.setup, asked.setup.loop.variables(trees.copy(asked.state)), split, everything)
        values = whole[asked.known[name]]
        if abs(values.mean() - first[name]) <= asked.slack(values):
            if split == "train":
                return Verdict(
                    Status.FAIL,
                    f"evaluate gives {name} {first[name]:.4g} whatever examples it is given: that is the {name} of the training split.",
                    "It evaluates the training split: use the inputs and targets that evaluate is given.",
                )
            return Verdict(
                Status.WARN,
                f"evaluate gives {name} {first[name]:.4g} whatever examples it is given: that is the {name} of the test split.",
                "Use the inputs and targets that evaluate is given; with data of its own it cannot be checked for batch size, order and size.",
            )
    return Verdict(
        Status.FAIL,
        f"evaluate gives {name} {first[name]:.4g} whatever examples it is given, and neither split scores that.",
        "Use the inputs and targets that evaluate is given, and the parameters of the state that it is given.",
    )


def _wrong_mean(asked: Asked) -> Verdict | None:
    """A number that is not the mean over the examples, with the mistake that explains it."""
    for name, known in sorted(asked.known.items(), key=lambda pair: pair[1] != "loss"):
        values = asked.each[known]
        slack = asked.slack(values)
        exact = float(values.mean())
        told = [(call, call.values.get(name, math.nan)) for call in asked.calls if call.values is not None]
        factor = _factor([number for _, number in told], exact, slack)
        wrong = [(call, number) for call, number in told if not near(number, exact * factor, slack * factor)]
        if not wrong:
            continue
        shown = "; ".join(dict.fromkeys(f"{number:.4g} at batch size {call.batch_size}" for call, number in wrong))
        finding = f"evaluate gives {name} {shown}, where the mean over the {len(values)} examples is {exact:.4g}."
        hint = cause_of(asked, name, told, values, slack)
        if hint is not None:
            return Verdict(Status.FAIL, finding, hint)
        numbers = [number for _, number in told]
        if max(numbers) - min(numbers) > 2 * slack or not all(map(math.isfinite, numbers)):
            return Verdict(
                Status.FAIL,
                f"{finding} The same examples score from {min(numbers):.4g} to {max(numbers):.4g} by batch size and order.",
                "Each example must count once and alike: sum over the examples that count and divide once by their number. If the model sees "
                "the batch (batch statistics in training mode), switch it to evaluation.",
            )
        return Verdict(
            Status.WARN,
            f"{finding} It is the same at every batch size and order.",
            f"If your {name} is defined in another way than the task's (another weighting, no label smoothing, per token), give the task the same "
            "one or another name. If not, look at what evaluate does to inputs and outputs.",
        )
    return None


def _factor(numbers: list[float], exact: float, slack: float) -> float:
    """100 when every number is the percentage of what is expected, which is no mistake; else 1."""
    return 100.0 if all(near(number, 100 * exact, 100 * slack) for number in numbers) and exact else 1.0


def _refused(asked: Asked) -> Verdict | None:
    refused = [call for call in asked.calls if call.values is None]
    if not refused:
        return None
    call = refused[0]
    return Verdict(
        Status.WARN,
        f"evaluate does not take {len(asked.indices)} examples at batch size {call.batch_size}: {call.error}",
        "An evaluation should take any set at any batch size: pad the last batch, mask the padding, and let a batch be larger than the set.",
    )


def _unknown_names_vary(asked: Asked) -> Verdict | None:
    """Numbers that the task does not know must at least be the same each time, unless they differ without reason (times)."""
    first, second = asked.calls[0].values or {}, asked.calls[1].values or {}
    for name, value in first.items():
        if name in asked.known or second.get(name) != value:
            continue
        others = [call.values[name] for call in asked.calls[2:] if call.values and name in call.values]
        far = max((abs(other - value) for other in others), default=0.0)
        if far > max(asked.tolerance, 0.01) * max(abs(value), 1e-12):
            return Verdict(
                Status.WARN,
                f"{name} of the same examples depends on batch size or order: {value:.4g}, and up to {far:.2g} off.",
                "If it is a mean over examples, sum and divide once. What is no mean over examples (AUC, F1) has to be computed from all "
                "predictions at once, not batch by batch.",
            )
    return None


def _shrinks_when_large(asked: Asked) -> Verdict | None:
    """On many copies of the same examples the numbers must stay."""
    size, said = asked.copies
    for name, known in asked.known.items():
        values = asked.each[known]
        full = np.resize(values, size)
        exact, slack = float(full.mean()), asked.slack(values)
        number = said.get(name, math.nan)
        if not (near(number, exact, slack) or near(number, 100 * exact, 100 * slack)):
            return Verdict(
                Status.FAIL,
                f"evaluate is right on {len(values)} examples and wrong on {size:,} made of the same ones: {name} {number:.4g}, not {exact:.4g}.",
                HALF,
            )
        if sums_in_half(asked, name):
            return Verdict(
                Status.FAIL,
                f"Every sum behind evaluate's {name} is a number that half precision can hold, which the true sums are not.",
                HALF,
            )
    return None


def _told(asked: Asked, verdict: Verdict) -> Result:
    """The result with its numbers."""
    rows = [
        (
            call.name,
            call.batch_size,
            name,
            "raised" if call.values is None else call.values.get(name, math.nan),
            float(asked.each[known].mean()),
        )
        for name, known in asked.known.items()
        for call in asked.calls
    ]
    off = [abs(float(row[3]) - row[4]) for row in rows if row[3] != "raised" and math.isfinite(float(row[3]))]
    size, said = asked.copies
    rows += [
        (f"{size:,} copies", asked.setup.batch_size, name, said[name], float(asked.each[known].mean()))
        for name, known in asked.known.items()
        if name in said
    ]
    return _result(
        status=verdict.status,
        finding=verdict.finding,
        hint=verdict.hint,
        measured={
            "largest difference from the exact mean": float(max(off, default=0.0)),
            "examples": len(asked.indices),
        },
        expected={"largest difference from the exact mean": f"up to {asked.tolerance:g} of mean and spread"},
        evidence=(
            Table(
                title="The same examples, asked for in several ways",
                columns=("way", "batch size", "number", "evaluate", "exact"),
                rows=rows,
            ),
        ),
    )
