"""Causes that lie in the loss and in what it is given."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="loss/not-finite",
        title="The loss is not finite before training.",
        harm="The first step makes every parameter NaN.",
        fix=(
            "Look for the log of zero or of a negative number, a label out of range, NaN in the data, or an "
            "overflow in half precision."
        ),
    ),
    Cause(
        code="loss/softmax-twice",
        title="A softmax or sigmoid is applied twice.",
        harm="The loss cannot get near its minimum, and its gradient is small where the model is wrong.",
        fix="Return logits from the model, and give them to the loss as they are.",
    ),
    Cause(
        code="loss/logits-as-probabilities",
        title="The loss wants probabilities and is given logits.",
        harm="It clips or overflows, and most examples get no gradient.",
        fix=(
            "Use the loss that takes logits (optax.softmax_cross_entropy_with_integer_labels, "
            "optax.sigmoid_binary_cross_entropy), which is also the one that does not overflow."
        ),
    ),
    Cause(
        code="loss/softmax-over-batch",
        title="The softmax runs over the batch or another wrong axis instead of the classes.",
        harm="Examples compete with each other instead of classes.",
        fix="Take softmax, log_softmax and logsumexp over the last axis, axis=-1.",
    ),
    Cause(
        code="loss/sum-instead-of-mean",
        title="The loss is summed over the batch where a mean was meant.",
        harm="The learning rate depends on the batch size.",
        fix="Give one number an example, without any reduction over the batch; the mean is taken later.",
        explains=("step/reports-sum",),
    ),
    Cause(
        code="loss/divided-twice",
        title="The loss is divided by the batch size once too often.",
        harm="The learning rate shrinks as batches grow.",
        fix="Give one number an example; the mean is taken later.",
    ),
    Cause(
        code="loss/weights-forgotten",
        title="The examples are weighted in one place and not in the other: a mean of means.",
        harm="A short sentence counts as much as a long one, or a rare class as little as a common one.",
        fix="Divide once, over all that counts: sum(weights * losses) / sum(weights), over the micro-batches and "
        "devices of a step too.",
    ),
    Cause(
        code="loss/term-forgotten",
        title="A term of the objective, such as a penalty of the weights, is not in the step.",
        harm="Another cost is trained than the one that is declared and reported.",
        fix="Add every extra term to the mean of the losses before the gradient is taken.",
    ),
    Cause(
        code="loss/wrong-axis",
        title="The loss reduces over the batch axis.",
        harm="Every example gets the same loss, or one number a label is left.",
        fix="Reduce over all axes but the first.",
    ),
    Cause(
        code="loss/broadcast",
        title="Outputs and targets broadcast against each other, as (N, 1) against (N,) do.",
        harm="Every output is compared with every target, so the best the model can do is the mean.",
        fix="Give both the same shape, and reduce over all axes but the first.",
    ),
    Cause(
        code="loss/mixes-examples",
        title="The loss of an example depends on other examples of its batch.",
        harm="What an example costs depends on who is beside it.",
        fix=(
            "Look for a reduction or normalization over axis 0. If the loss is meant to compare examples, "
            "declare mixes_examples=True."
        ),
    ),
    Cause(
        code="loss/penalty-outweighs-targets",
        title="A term of the loss that has nothing to do with the targets outweighs the one that has.",
        harm="The outputs are the same whatever the inputs are: the posterior of an autoencoder collapses.",
        fix=(
            "Reduce both terms alike: sum the error over pixels or tokens where the KL term is summed over latent "
            "numbers. Otherwise give it a smaller weight, or raise the weight from 0."
        ),
        explains=(
            "model/initialization-too-large",
            "model/final-bias-ignores-prior",
            "model/no-better-than-linear",
            "data/labels-shuffled",
            "model/input-ignored",
        ),
    ),
    Cause(
        code="loss/weighted-by-batch",
        title="The loss is a mean by weights or counts of the whole batch, such as all of its tokens.",
        harm="What an example costs depends on whose targets are beside it, and means over batches on their sizes.",
        fix=(
            "If that mean is meant, declare it: Task(objective=...) that gives Costs(losses=..., weights=...), or "
            "mixes_examples=True. Otherwise divide by the weights of each example."
        ),
    ),
    Cause(
        code="loss/squared-error-for-classes",
        title="Classes are learned by a squared error.",
        harm="Class numbers are no quantities, and a squared error of logits gives wrong answers little gradient.",
        fix="Use a cross entropy of logits.",
    ),
    Cause(
        code="loss/cross-entropy-for-values",
        title="Real-valued targets are given a cross entropy.",
        harm="It has no floor for values outside [0, 1].",
        fix="Use a squared or absolute error.",
    ),
    Cause(
        code="loss/sign-flipped",
        title="The sign of the loss is flipped.",
        harm="Training makes the model worse on purpose.",
        fix="Minimize the negative log-likelihood, not the log-likelihood; maximize nothing.",
    ),
    Cause(
        code="loss/unbounded",
        title="A constant output drives the loss down without end.",
        harm="The loss rewards being wrong.",
        fix="Look for a flipped sign, or a loss that wants probabilities and is given unbounded outputs.",
    ),
    Cause(
        code="loss/constant-output-wins",
        title="An output that ignores the input drives the loss to nothing.",
        harm="The loss does not weigh the classes against each other, so nothing has to be learned.",
        fix="Use a loss that takes logits and the targets, such as optax.softmax_cross_entropy_with_integer_labels.",
    ),
    Cause(
        code="loss/not-a-cross-entropy",
        title="The loss of the declared classes is not on the scale of a cross entropy.",
        harm="Rules of thumb for learning rates and losses do not hold.",
        fix=(
            "If this is the squared error, use a cross entropy; if it is summed over something else, take one "
            "mean over examples; if it is focal or weighted, all is well."
        ),
    ),
    Cause(
        code="loss/teaches-nothing",
        title="No output changes the loss of some examples.",
        harm="Nothing is learned from them.",
        fix=(
            "Look at their labels: one_hot of a label that is out of range is a row of zeros. If they are left out on "
            "purpose (a weight or mask of zero), all is well."
        ),
    ),
    Cause(
        code="loss/flat",
        title="The loss has no gradient where the outputs are.",
        harm="Nothing is learned from such examples.",
        fix=(
            "It is clipped or saturated (clip gradients, not the loss), rounds, takes the softmax over a single "
            "output, or is a metric."
        ),
    ),
    Cause(
        code="loss/single-output-softmax",
        title="A softmax is taken over a single output.",
        harm="It is one whatever the output says, so there is no gradient.",
        fix="Use a sigmoid cross entropy for one output, or two outputs with a softmax.",
        explains=("loss/flat", "model/no-gradient", "model/input-ignored", "step/updates-thrown-away"),
    ),
    Cause(
        code="loss/softmax-over-multilabel",
        title="A softmax is taken over labels that do not exclude each other.",
        harm="Labels that may hold at once compete.",
        fix="Use a sigmoid cross entropy for each label.",
    ),
    Cause(
        code="loss/target-not-shifted",
        title="The targets are not shifted against the inputs.",
        harm="The model is asked for a token that it is given, and learns to copy.",
        fix="Shift once: inputs tokens[:, :-1], targets tokens[:, 1:]. For an autoencoder do not declare causal.",
    ),
    Cause(
        code="loss/target-shifted-twice",
        title="The targets are shifted twice.",
        harm="The next token is skipped.",
        fix="Shift once: in the data, or in the loss, not in both.",
    ),
    Cause(
        code="loss/target-shifted-backwards",
        title="The targets are shifted the wrong way.",
        harm="The model is asked for a token that it has seen.",
        fix="Inputs tokens[:, :-1], targets tokens[:, 1:].",
    ),
    Cause(
        code="loss/padding-counted",
        title="The loss counts padding.",
        harm="Most of what is learned is to predict padding.",
        fix="Multiply the losses by the mask and divide by its sum.",
    ),
    Cause(
        code="loss/clipped",
        title="The loss is clipped where the gradients were meant to be.",
        harm="Examples above the limit teach nothing.",
        fix="Clip gradients (optax.clip_by_global_norm), not the loss.",
        explains=("loss/flat", "model/no-gradient", "model/input-ignored"),
    ),
    Cause(
        code="loss/class-weights-misordered",
        title="Class weights belong to other classes.",
        harm="Rare classes are weighted down instead of up.",
        fix="Weigh by one over the count, in the order of the classes, indexed by the label.",
    ),
    Cause(
        code="loss/class-weights-inverted",
        title="Class weights favor frequent classes.",
        harm="What is rare, and usually matters, is learned last.",
        fix="Divide by the counts instead of multiplying with them; if frequent classes are meant to count more, all "
        "is well.",
    ),
    Cause(
        code="loss/weights-by-place",
        title="A weight, mask or table is indexed by the place in the batch.",
        harm="What an example costs depends on where it stands.",
        fix="Index it by the example's label, or carry it along with the example.",
    ),
    Cause(
        code="loss/metric-mixes-examples",
        title="The metric mixes the examples of a batch.",
        harm="Its mean over batches depends on the batch size.",
        fix="Give one number an example: no reduction over axis 0.",
    ),
    Cause(
        code="loss/other-targets-than-metric",
        title="A low loss comes with wrong predictions.",
        harm="What is minimized is not what is measured.",
        fix="The sign is flipped, the loss reads other targets than the metric, or the classes are in another order.",
    ),
)
