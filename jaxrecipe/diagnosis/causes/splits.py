"""Causes that lie in how the data were split: what holds in training does not hold in the test."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="data/split-scaled-differently",
        title="One split is scaled or centered and the other is not.",
        harm="The model is tested on inputs it has never seen the like of.",
        fix="Apply one function with the same numbers, those of the training split, to both, and only once.",
    ),
    Cause(
        code="data/split-axes-swapped",
        title="Axes, channels or columns are swapped between the splits.",
        harm="The model is tested on inputs it has never seen the like of.",
        fix="Read both splits with the same code (RGB against BGR, height against width, order of columns).",
    ),
    Cause(
        code="data/split-labels-mapped-differently",
        title="The labels of one split are numbered differently.",
        harm="The test score is that of another task.",
        fix="Number the classes once (the sorted names, say) and use that map for both splits.",
    ),
    Cause(
        code="data/split-targets-differ",
        title="The targets of one split are scaled, centered, negated or shifted, those of the other not.",
        harm="The test score is that of another task.",
        fix=(
            "Use one function with the training split's numbers for both (for tokens the same slices, rows[:, "
            ":-1] and rows[:, 1:])."
        ),
    ),
    Cause(
        code="data/split-shift",
        title="What holds in the training split does not hold in the test split.",
        harm="The test score is that of another task.",
        fix=(
            "Natural for splits by time, place or person; otherwise one of them was filtered, scaled, relabeled "
            "or shuffled in another way: read both with the same code."
        ),
    ),
    Cause(
        code="data/splits-disagree",
        title="Each split makes sense by itself, but not the one by the other.",
        harm="What is learned in training does not help in the test, although the inputs look alike.",
        fix="Compare how labels are numbered, how columns are ordered and what the targets are in each split.",
    ),
    Cause(
        code="data/split-inputs-differ",
        title="Training and test inputs can be told apart.",
        harm="The model is tested on inputs unlike those that it learned from.",
        fix=(
            "Natural for splits by time, place or person; otherwise one of them was filtered, scaled, compressed "
            "or made in another way: read both with the same code."
        ),
    ),
    Cause(
        code="data/drifting-feature",
        title="A number drifts between the splits.",
        harm="The model is tested outside of the range that it was trained on.",
        fix=(
            "Find out whether it is in another unit in one split or drifts with time; use differences or ratios "
            "of it where it drifts."
        ),
    ),
)
