"""Exact evaluation: the whole set, every example once, whatever the batch size and the order."""

import math

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.exact_eval.answers import Answers, ask_in_several_ways
from jaxrecipe.checks.skeleton.exact_eval.findings import averages, differences, findings_of
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.output_precision import computes_in_half
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup, Split

FEWEST = 3
"""With fewer examples no batch size divides them unevenly."""


def exact_eval(
    setup: Setup, *, key: PRNGKeyArray, tolerance: float = 2e-3, tolerance_half: float = 2e-2, large: int = 20_000
) -> Result:
    """Evaluation gives the mean over all examples, each counted once, at any batch size and in any order.

    What it does: after a few training steps asks the loop's `evaluate` for the same held-out examples in several ways:
    at the task's batch size, at a small one that does not divide their number, at one larger than the set, and in the
    reverse order. All must agree with the mean of the task's own loss and metrics of each example, computed apart in
    float64 at the parameters that the state holds. The examples are sorted by loss, so that those in the last batch are
    the worst: leaving them out, or giving them another weight, shows. Then other examples must give other numbers, and
    a large set made of copies the same ones. Where the numbers are wrong, those that the usual mistakes would give are
    computed too, and the mistake that fits is named. Names that the task does not know are only asked to stay the same.

    Why it matters: an evaluation that drops the last batch or averages batch means is wrong by as much as the
    differences that one hopes to see, and one on the training split looks wonderful.

    What to do: sum over the examples that count, in float32 or on the host, and divide once by their number. Pad the
    last batch and mask the padding.

    Args:
        setup: the set-up.
        key: seeds the few training steps.
        tolerance: how far two numbers may differ, relative to mean and spread of the examples; TF32 gives 1e-3.
        tolerance_half: the same when the model computes in half precision.
        large: examples of the large set, enough that a sum in half precision stops growing (at 256 in bfloat16, 2048 in
            float16). Large models and examples get fewer.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "add significant digits to your eval".
    """
    split: Split = "train" if setup.test is None else "test"
    source = setup.test or setup.train
    if source.size < FEWEST:
        return skipped(f"There are only {source.size} held-out examples; give {FEWEST} or more.")
    half = computes_in_half(setup)
    answers = ask_in_several_ways(
        setup,
        key,
        split,
        tolerance=tolerance_half if half else tolerance,
        threshold="tolerance_half" if half else "tolerance",
        large=large,
    )
    unknown = int((~np.isfinite(answers.each["loss"])).sum())
    if unknown:
        return skipped(
            f"Undetermined: the loss of {unknown} of {len(answers.indices)} held-out examples is not finite, so their "
            "mean says nothing; see finite_inputs and loss_at_init."
        )
    measures = (Measure(name="examples", value=len(answers.indices)), *differences(answers).values())
    return Result(
        summary=_summary(answers), findings=tuple(findings_of(answers)), measures=measures, evidence=(_table(answers),)
    )


def _summary(answers: Answers) -> str:
    if answers.random_by_design or averages(answers):
        return (
            f"The evaluation is random by design, and right within its spread: {', '.join(answers.known)} of "
            f"{len(answers.indices)} examples at {len(answers.calls) - 1} batch sizes and orders."
        )
    names = ", ".join(answers.known) or "What it returns"
    equal = " (no name is the task's, so there was nothing to compare with)"
    if answers.known:
        equal = " and equal the mean over the examples"
    ways = len(answers.calls) - 1
    size = len(answers.indices)
    return f"The evaluation is exact: {names} of {size} examples are the same at {ways} batch sizes and orders{equal}."


def _table(answers: Answers) -> Table:
    """Every number that came back beside the exact one."""
    exact = {name: float(answers.each[known].mean()) for name, known in answers.known.items()}
    rows = [
        (call.name, call.batch_size, name, "raised" if call.values is None else call.values.get(name, math.nan), mean)
        for name, mean in exact.items()
        for call in answers.calls
    ]
    size, said = answers.copies
    rows += [
        (f"{size:,} copies", answers.setup.batch_size, name, said[name], mean)
        for name, mean in exact.items()
        if name in said
    ]
    title, columns = (
        "The same examples, asked for in several ways",
        ("way", "batch size", "number", "evaluate", "exact"),
    )
    return Table(title=title, columns=columns, rows=rows)
