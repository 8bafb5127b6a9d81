"""Class balance: every declared class is there, in both splits, and accuracy is not bought by naming the commonest."""

from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.class_balance.balance import different_between_splits, imbalance
from jaxrecipe.checks.data.class_balance.counts import count
from jaxrecipe.checks.data.class_balance.evidence import evidence, in_words
from jaxrecipe.checks.data.class_balance.missing import missing_from_test, missing_from_training
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.result import Evidence, Result, skipped
from jaxrecipe.setup import Setup

TESTS_OF_A_CLASS = 3
"""Missing from the training data, missing from the test data, and more or less common."""


def class_balance(
    setup: Setup, *, key: PRNGKeyArray, chance: float = 1e-3, majority_warn: float = 0.95, ratio_warn: float = 100.0
) -> Result:
    """Every declared class occurs, alike in both splits, and naming the commonest class always is no great score.

    What it does: counts the classes of every head with classes, split by split: examples, or pixels of masks, or
    positives of each of several labels. A declared class that is missing from the training data fails where there are
    so many examples that chance cannot have left out even a class ten times rarer than its even share. A class missing
    from the test data only, or three times as common in one split as in the other and by more than chance, is a
    warning. So is extreme imbalance where accuracy is the metric. Probabilities are corrected for testing every class
    of every head (Bonferroni).

    Why it matters: a class that is never seen is never predicted, and the accuracy on the others hides it; of data with
    one class in 97 of 100 examples a model that has learned nothing has an accuracy of 97%.

    What to do: count the classes after every step that loads, filters and splits; split at random within each class.
    For real imbalance put the prior into the final bias, and judge by balanced accuracy, F1 or the loss.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        chance: an absence (or, of the difference between the splits, a thousandth of it) is a finding when chance makes
            it less probable than this, in any class of any head.
        majority_warn: WARN when accuracy is the metric and the best constant answer has more than this accuracy.
        ratio_warn: WARN when accuracy is the metric and the commonest class is this many times as frequent as the
            rarest.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data" and "init well".
    """
    del key
    counted = count(setup)
    if not counted:
        return skipped("No head of the target has classes to count: declare them, as target=jr.Classes(10).")
    tests = TESTS_OF_A_CLASS * sum(len(counts.train.times) for counts in counted)
    findings: list[Finding] = []
    measures: list[Measure] = []
    charts: list[Evidence] = []
    for counts in counted:
        numbers, found = missing_from_training(counts, chance, tests)
        measures += numbers
        findings += found
        by_accuracy = f"{counts.path}/accuracy".lstrip("/") in setup.task.all_metrics
        for measure, finding in (
            *missing_from_test(counts, chance, tests),
            *different_between_splits(counts, chance, tests),
            *imbalance(counts, majority_warn, ratio_warn, by_accuracy=by_accuracy),
        ):
            measures.append(measure)
            findings += [finding] if finding is not None else []
        charts += evidence(counts)
    summary = f"Every class is there: {'; '.join(map(in_words, counted))}."
    return Result(summary=summary, findings=tuple(findings), measures=tuple(measures), evidence=charts)
