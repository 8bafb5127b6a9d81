"""Causes that lie in how a loader reads, orders and pairs the examples."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="data/sorted",
        title="Examples come sorted.",
        harm="Each batch holds mostly one kind, so training is pulled from one to the next.",
        fix=(
            "Shuffle all examples before batches are made (a shuffle buffer must be as large as the data), or "
            "permute the indices anew every epoch."
        ),
    ),
    Cause(
        code="data/same-order-every-epoch",
        title="Every epoch comes in the same order.",
        harm="The same batches come again and again, and are learned as such.",
        fix="Draw a new permutation every epoch, with the epoch in the seed (set_epoch, reshuffle_each_iteration).",
    ),
    Cause(
        code="data/drifting-order",
        title="The inputs change along the order in which they come.",
        harm="Parameters and batch statistics follow the drift.",
        fix="The order follows time, source or difficulty: shuffle all examples before batches are made.",
    ),
    Cause(
        code="data/examples-skipped",
        title="Training never sees some examples.",
        harm="Whatever only they show cannot be learned.",
        fix=(
            "Look for a loader that stops early, a sampler over the wrong length, or a last batch that is "
            "dropped before shuffling, which leaves out the same examples every epoch."
        ),
    ),
    Cause(
        code="data/sampled-with-replacement",
        title="Examples come several times in an epoch while others do not come.",
        harm="An epoch is only a number of steps.",
        fix="If sampling with replacement or weights is meant, all is well; otherwise use a permutation.",
    ),
    Cause(
        code="data/trained-on-test",
        title="The loader hands out test examples for training.",
        harm="What is measured on the test data is worth nothing.",
        fix="The loader was given the wrong split, or the splits were joined: give it the training split only.",
    ),
    Cause(
        code="data/foreign-examples",
        title="The loader hands out examples that are not in the training data.",
        harm="Padding of the last batch is trained on as if it were examples.",
        fix=(
            "Mask the padding of the last batch (zeros count as examples otherwise); look for rows of another data set."
        ),
    ),
    Cause(
        code="data/misaligned-targets",
        title="Inputs come with the targets of other examples.",
        harm="Nothing but the training examples can be learned.",
        fix=(
            "Use one permutation of the indices for both; look for targets shifted by one, and for a data set that "
            "does not follow its index or reads in bulk in another order than asked for."
        ),
    ),
    Cause(
        code="data/random-reader",
        title="Reading the same example twice gives different data.",
        harm="No run can be repeated, and evaluation is augmented too.",
        fix="Move the randomness to Task.augment, which is given a key.",
    ),
    Cause(
        code="data/stored-sorted",
        title="The examples are stored sorted.",
        harm="A loop that does not shuffle trains on batches of one label.",
        fix=(
            "Permute the indices anew every epoch, and give Loop(batches=...) so that the order in which your "
            "loader hands them out can be checked."
        ),
    ),
    Cause(
        code="data/endless-epoch",
        title="An epoch does not end.",
        harm="Whether every example is seen, and how often, cannot be told.",
        fix="Let batches(epoch) end after one pass over the training data.",
    ),
)
