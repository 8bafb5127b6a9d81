"""Causes that lie in single examples: wrong labels, and examples that stand apart."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="data/labels-shuffled",
        title="The labels have nothing to do with their inputs.",
        harm="Nothing but the training examples can be learned.",
        fix=(
            "Inputs were shuffled, sorted or filtered without their labels, or the labels are random: carry "
            "both through every operation together."
        ),
    ),
    Cause(
        code="data/label-noise",
        title="Some labels are wrong.",
        harm="The model learns them too, and the test score is capped.",
        fix=(
            "Look at the suspects in the report, surest first; correct or drop them, and ask how they came "
            "about (a join, a default label, hasty annotators)."
        ),
    ),
    Cause(
        code="data/target-outliers",
        title="A few targets are far from what similar examples have.",
        harm="They dominate a squared error.",
        fix=(
            "Look for another unit, a missing value written as a number, a slip of the decimal point. If they are "
            "right, a robust loss or a logarithm copes with them."
        ),
    ),
    Cause(
        code="data/outliers",
        title="Some examples stand apart from all others.",
        harm="Outliers nearly always show a bug in the data.",
        fix=(
            "Look at them and find where they come from; repair or drop what is broken. Examples that are right "
            "need a loss or a scaling that copes with them."
        ),
    ),
    Cause(
        code="data/blank-examples",
        title="Some examples are blank.",
        harm="There is nothing to learn from them, and they count like all others.",
        fix="Look for files that could not be read, a crop beside the image, or a buffer that was not filled.",
    ),
    Cause(
        code="data/mixed-image-processing",
        title="Some images were processed unlike all others.",
        harm="They are inverted, overexposed, blurred or scaled otherwise, and the model has to learn their task anew.",
        fix=(
            "Look for inverted, overexposed, enlarged or rescaled images, and for a second source with a "
            "preparation of its own."
        ),
    ),
    Cause(
        code="data/garbled-images",
        title="Some images are noise.",
        harm="Nothing but their labels can be learned from them.",
        fix="Look for wrong strides, byte order or size when they were decoded, and for files cut short.",
    ),
    Cause(
        code="data/mixed-colors",
        title="Some images have other colors or another order of channels.",
        harm="The same object looks different in them.",
        fix="Look for gray images among colored ones, for BGR read as RGB, and for another color space.",
    ),
    Cause(
        code="data/broken-texts",
        title="Some texts are far longer or shorter than all others.",
        harm="They are cut off, or fill a batch with padding.",
        fix="Look for empty texts, several texts joined into one, and markup that was read as text.",
    ),
    Cause(
        code="data/repeated-tokens",
        title="Some texts are one token again and again.",
        harm="Nothing but that token can be learned from them.",
        fix=(
            "Look for padding that is not declared, an unknown token, a broken file, or tokens made with another "
            "vocabulary."
        ),
    ),
    Cause(
        code="data/wrong-unit",
        title="Some numbers are in another unit, or were misread.",
        harm="They drown all other numbers, in the first layer as in any mean.",
        fix="Look for another unit, a misread decimal point or thousands separator, an overflow.",
    ),
    Cause(
        code="data/missing-values",
        title="Some examples have far more missing numbers than all others.",
        harm="Little is left to learn from them.",
        fix="Look at where they come from, and drop them if too little is left.",
    ),
    Cause(
        code="data/failed-sensor",
        title="Some series are flat, or nothing but noise.",
        harm="Nothing but their targets can be learned from them.",
        fix="Look for a sensor that failed, and for another sampling rate.",
    ),
    Cause(
        code="data/wrong-masks",
        title="Some masks are empty, full, inverted, or belong to another image.",
        harm="They teach the opposite of the others.",
        fix="Draw them over their images.",
    ),
)
