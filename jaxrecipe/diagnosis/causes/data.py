"""Causes that lie in the data as a whole: inputs, labels, classes, copies, leaks."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="data/not-finite",
        title="Inputs hold NaN or infinity.",
        harm="One such example makes every parameter NaN.",
        fix=(
            "Find where it comes in (missing values, a division by zero, an overflow of half precision); drop "
            "it, or replace it in prepare and add a column that says so."
        ),
    ),
    Cause(
        code="data/not-finite-after-prepare",
        title="prepare makes NaN or infinity out of finite inputs.",
        harm="One such example makes every parameter NaN.",
        fix=(
            "Look in prepare for a division by a standard deviation or maximum of zero, the logarithm of zero, "
            "or an overflow."
        ),
    ),
    Cause(
        code="data/huge-values",
        title="Some inputs are so large that their square overflows in float32.",
        harm="Norms and losses become infinite.",
        fix=(
            "These are no measurements, but uninitialized memory, wrong bytes or a code for missing values: "
            "replace them before scaling."
        ),
    ),
    Cause(
        code="data/missing-value-code",
        title="A number that stands for a missing value is used as a measurement.",
        harm="It drowns the real values of its column.",
        fix="Replace it (mean of the column, or 0 after scaling) and add a column that says where it was.",
    ),
    Cause(
        code="data/mixed-scale",
        title="Some examples are scaled and others are not.",
        harm="The model has to learn two copies of the task, and normalization statistics fit neither.",
        fix=(
            "Look for two sources with different preparation, uint8 beside float, or a cache that is scaled "
            "again; scale everything in one place."
        ),
    ),
    Cause(
        code="data/integers-overflow",
        title="Integers do not fit into the 32 bits that JAX keeps.",
        harm="They silently become other numbers.",
        fix="Number them anew from 0, or enable x64.",
    ),
    Cause(
        code="data/rounded-away",
        title="The inputs differ by less than float32 can hold at their size.",
        harm="Most of what distinguishes the examples is rounded away.",
        fix="Subtract the mean (of time stamps, coordinates, prices) in float64 before the data go to JAX.",
    ),
    Cause(
        code="data/bytes-read-as-signed",
        title="Bytes of images were read as signed.",
        harm="Everything brighter than 127 is negative.",
        fix="Read them as uint8.",
    ),
    Cause(
        code="data/integer-arithmetic",
        title="Arithmetic on unsigned bytes wraps around.",
        harm="`uint8 - 78` stays uint8, so dark pixels become bright ones.",
        fix="Cast to float32 first, then subtract and divide.",
    ),
    Cause(
        code="data/constant-inputs",
        title="Every example has the same input.",
        harm="The model can only learn the mean of the targets.",
        fix="Look for a buffer that is overwritten, the wrong file or column, or a scaling that gives 0.",
    ),
    Cause(
        code="data/constant-feature",
        title="Some features are the same in every example.",
        harm="Nothing can be learned from them, and a standard deviation of zero divides.",
        fix="Look for a column or channel that was lost when the data were read; leave them out if that is meant.",
    ),
    Cause(
        code="data/inputs-not-scaled",
        title="The inputs enter the model unscaled.",
        harm="Large inputs make the first updates too large and the loss at init too high.",
        fix="Divide by their range or standardize them, once, in prepare.",
    ),
    Cause(
        code="data/scaled-twice",
        title="The inputs are scaled twice.",
        harm="They are so small that the first layer hardly sees them.",
        fix="Scale once: not in the loader and again in prepare.",
    ),
    Cause(
        code="data/channels-first",
        title="Images have their channels first, and the model reads them last.",
        harm="A convolution takes the width for channels.",
        fix="Flax reads [batch, height, width, channels]: transpose in prepare, jnp.moveaxis(x, 1, -1).",
    ),
    Cause(
        code="data/token-outside-embedding",
        title="Token ids are outside of the embedding.",
        harm="JAX takes the last row, or NaN, for an id that is too large, and counts negative ones from the end.",
        fix="Enlarge the embedding, or correct the ids.",
    ),
    Cause(
        code="data/labels-not-finite",
        title="Labels hold NaN or infinity.",
        harm="The loss is NaN with these.",
        fix=(
            "Drop the examples or mask them in the loss; look for a division by zero or a missing value where "
            "the labels are made."
        ),
    ),
    Cause(
        code="data/constant-labels",
        title="All labels are alike.",
        harm="There is nothing to learn from them.",
        fix=(
            "Look for labels that were scaled like the images (y / 255 as an integer is 0), read from the wrong "
            "column, or cut from data that are sorted by label."
        ),
    ),
    Cause(
        code="data/labels-out-of-range",
        title="Labels lie outside of the declared classes.",
        harm="JAX silently takes another class for them, or no class at all.",
        fix="Correct the labels, or the declared number of classes.",
    ),
    Cause(
        code="data/labels-from-one",
        title="Labels count from 1.",
        harm="One output is never right, and the last class is clipped or dropped.",
        fix="Subtract 1 in prepare, and declare one class less.",
        explains=("data/class-missing", "loss/not-finite", "optimizer/diverged"),
    ),
    Cause(
        code="data/labels-scaled",
        title="Class labels were scaled like the inputs.",
        harm="Class numbers divided by 255 are no classes any more.",
        fix="Scale the inputs only.",
    ),
    Cause(
        code="data/labels-in-steps",
        title="Labels are class numbers times a factor, as in masks stored as gray levels.",
        harm="Most classes never occur.",
        fix="Divide by the factor, so that classes are 0, 1, 2, ...",
    ),
    Cause(
        code="data/labels-exclusive",
        title="Labels declared as independent exclude each other.",
        harm="Independent yes-or-no outputs do not know that only one can be right.",
        fix="Declare jr.Classes(n) with a softmax cross entropy.",
    ),
    Cause(
        code="data/empty-masks",
        title="Nearly all masks are empty or hold a single class.",
        harm="Answering with that class alone is right nearly everywhere.",
        fix=(
            "Look at the masks: were they drawn, resized and thresholded as meant? Sample the examples that "
            "show something more often."
        ),
    ),
    Cause(
        code="data/masks-of-one-class",
        title="Every mask holds one class only.",
        harm="Where one class ends and another begins cannot be learned from them.",
        fix="Look for the label of the whole image spread over its mask, or masks read from the wrong file.",
    ),
    Cause(
        code="data/few-positives",
        title="Nearly all examples have no positive label.",
        harm="Answering no to everything is right nearly everywhere.",
        fix=(
            "Check that labels were joined to their examples and thresholded as meant; sample the examples that have "
            "one "
            "more often."
        ),
    ),
    Cause(
        code="data/constant-target-columns",
        title="Some of several targets are the same in every example.",
        harm="Nothing can be learned about them, and every mean over the targets looks better for it.",
        fix="Look for where their other values were lost, or leave them out.",
    ),
    Cause(
        code="data/heavy-tailed-targets",
        title="A few targets are far larger than all others.",
        harm="A squared error is about these few alone.",
        fix="Check that they are right; if so predict the logarithm, clip them, or use a robust loss (Huber).",
    ),
    Cause(
        code="data/targets-not-scaled",
        title="Regression targets are far from zero or far from unit scale.",
        harm="The first thing training does is to learn their mean, and every learning rate means something else.",
        fix="Standardize the targets, or put their mean into the final bias.",
    ),
    Cause(
        code="data/targets-lose-precision",
        title="Targets differ by less than float32 can hold at their size.",
        harm="Most of what is to be predicted is rounded away.",
        fix="Subtract the mean in float64 before the data go to JAX, and add it back to predictions.",
    ),
    Cause(
        code="data/padding-undeclared",
        title="Rows end in runs of one token that is not declared as padding.",
        harm="The model learns to predict padding and is rewarded for it.",
        fix=(
            "If it is padding, mask it in the loss and declare jr.Tokens(vocabulary, pad=...). If these are "
            "real tokens, all is well."
        ),
    ),
    Cause(
        code="data/mostly-padding",
        title="Most of the tokens are padding.",
        harm="Most of the computation is for nothing.",
        fix="Sort by length, cut to the longest of a batch, or pack several examples into a row.",
    ),
    Cause(
        code="data/empty-rows",
        title="Rows hold nothing but padding.",
        harm="A mean over their tokens divides by zero.",
        fix="Drop them; look for files that could not be read.",
    ),
    Cause(
        code="data/unused-vocabulary",
        title="Most of the vocabulary never occurs.",
        harm="Every unused token costs parameters and is pushed down at every step.",
        fix="Check that the tokens were made with this vocabulary.",
    ),
    Cause(
        code="data/class-missing",
        title="A class has no training example.",
        harm="It can never be predicted.",
        fix=(
            "Look for a filter, a label map or a split that loses it (sorted data cut in two), labels that "
            "count from 1, or a declared number of classes that is too large."
        ),
    ),
    Cause(
        code="data/class-not-tested",
        title="A class has no test example.",
        harm="Nothing is measured about it.",
        fix="Split at random within each class, or evaluate on more examples.",
    ),
    Cause(
        code="data/class-balance-shift",
        title="Class frequencies differ between the splits.",
        harm="Splits drawn at random do not differ so much: what is measured is another task.",
        fix=(
            "Find out whether one split was filtered, resampled or relabeled; if resampling is meant, correct "
            "the outputs for the prior of the test data."
        ),
    ),
    Cause(
        code="data/imbalance",
        title="One class makes up nearly everything.",
        harm="Naming the commonest class is nearly right, so accuracy says little.",
        fix=(
            "Judge by balanced accuracy, F1 or the loss, put the prior into the final bias, and weight or "
            "resample the rare classes if they matter."
        ),
    ),
    Cause(
        code="data/conflicting-duplicates",
        title="Equal inputs have different labels.",
        harm="No model can learn both.",
        fix=(
            "Look at the pairs; drop the copies or correct the labels, and find the step that copied or joined "
            "rows twice."
        ),
    ),
    Cause(
        code="data/duplicates",
        title="Examples occur several times.",
        harm="They count several times, and a random split puts copies on both sides.",
        fix="Keep one of each before splitting.",
    ),
    Cause(
        code="data/near-duplicates",
        title="Examples occur several times with small changes.",
        harm="They count several times, and a random split puts them on both sides.",
        fix=(
            "Look whether it is noise, compression or frames of one film; split by their origin (one film, one person, "
            "one document)."
        ),
    ),
    Cause(
        code="data/test-in-train",
        title="The same examples are in train and test.",
        harm="The test score includes examples that were trained on.",
        fix=(
            "Test examples were added to the training data, or the test set was drawn from it: drop them from one of "
            "the "
            "two, and split once, before anything else (oversampling, augmenting, joining)."
        ),
    ),
    Cause(
        code="data/near-test-in-train",
        title="Near copies of test examples are in the training data.",
        harm="The test score includes examples that were as good as trained on.",
        fix="Split before augmenting, and by the origin of the examples.",
    ),
    Cause(
        code="data/copied-before-split",
        title="Examples were copied (oversampled, augmented, joined) before the split.",
        harm="A random split puts copies on both sides, and the test score includes examples that were trained on.",
        fix="Split first, then copy.",
    ),
    Cause(
        code="data/repetitive",
        title="The data repeat themselves, so a random split puts copies on both sides.",
        harm="The test score flatters the model.",
        fix="Keep one of each before splitting, or split by origin.",
    ),
    Cause(
        code="data/leaked-label",
        title="The label leaks into the inputs.",
        harm="The score says nothing of the task, since the leak will not be there when the model is used.",
        fix=(
            "Leave these numbers out (crop or mask them), and find where they come in: an index, a file name, a "
            "column computed from the target, marks burnt into images."
        ),
    ),
    Cause(
        code="data/single-feature-suffices",
        title="A number of the input gives the label by itself.",
        harm="Either the task is that simple and a lookup does it, or the label leaks.",
        fix="Ask whether this number is known before the label is; if not, leave it out.",
    ),
    Cause(
        code="data/inputs-do-not-help",
        title="Training on the real inputs is no better than training on blank ones.",
        harm="Nothing of what the model learns comes from its inputs.",
        fix="Look at inputs and labels side by side just before the model, and take the causes one by one.",
    ),
    Cause(
        code="data/weak-signal",
        title="The inputs hold little that predicts the targets, or there are few examples.",
        harm="The model finds it first and then memorizes its training examples.",
        fix=(
            "Stop earlier, regularize, make the model smaller or get more data; ask whether noise in the labels "
            "hides the rest."
        ),
    ),
    Cause(
        code="data/human-figure-no-share",
        title="The accuracy given for a person is no share between 0 and 1.",
        harm="Nothing can be compared with it.",
        fix="Divide per cent by 100.",
    ),
    Cause(
        code="data/human-figure-doubtful",
        title="The accuracy given for a person cannot be right.",
        harm="A wrong figure makes every comparison with it wrong.",
        fix=(
            "Doubt the figure first: an error rate, labels that are mapped differently, another task. Then look for "
            "labels "
            "that no person could know from the input."
        ),
    ),
)
