"""Causes that lie in the model and its initialization."""

from jaxrecipe.diagnosis.causes.cause import Cause

AFTER_NAN = (
    "loss/not-finite",
    "optimizer/diverged",
    "optimizer/learning-rate-too-high",
    "model/does-not-memorize",
    "data/inputs-do-not-help",
    "model/no-better-than-linear",
)
"""What a training shows whose parameters have become NaN."""
CAUSES: tuple[Cause, ...] = (
    Cause(
        code="model/batch-size-fixed",
        title="A batch of one example does not come through.",
        harm="Evaluation of single examples and uneven last batches fail.",
        fix=(
            "Look for a squeeze without an axis, a fixed batch size in a reshape, or a reduction over the wrong axis."
        ),
    ),
    Cause(
        code="model/reshape-for-transpose",
        title="A reshape moves numbers from one example to another.",
        harm="Examples are made of pieces of others.",
        fix="Use a transpose where axes are to be swapped, and never reshape across the batch axis.",
    ),
    Cause(
        code="model/depends-on-place",
        title="What the model makes of an example depends on its place in the batch.",
        harm="The same example gets another prediction in another batch.",
        fix=(
            "Look for what is indexed or added along axis 0: a position that belongs to time, or a constant or mask "
            "with one entry for each example."
        ),
    ),
    Cause(
        code="model/normalizes-over-batch",
        title="The model takes a mean, softmax or normalization over the batch.",
        harm="Each prediction depends on who is beside it, in evaluation too.",
        fix="Reduce over features, not axis 0. If examples are meant to be compared, declare mixes_examples=True.",
    ),
    Cause(
        code="model/batch-statistics-at-eval",
        title="BatchNorm uses the batch at hand in evaluation mode.",
        harm="Predictions depend on the batch, and test data leak into the model.",
        fix=(
            "Pass train=False on to every BatchNorm (use_running_average=True), and drop the state that "
            "evaluation returns."
        ),
    ),
    Cause(
        code="model/mixes-examples",
        title="The model hands numbers from one example of a batch to another.",
        harm="Each prediction depends on who is beside it.",
        fix=(
            "Look for a reshape where a transpose was meant, a softmax, mean or normalization over axis 0, or "
            "attention over the batch axis."
        ),
    ),
    Cause(
        code="model/spreads-nan",
        title="A NaN in one example reaches the others.",
        harm="One bad example spoils a whole batch.",
        fix=(
            "Most likely a product with a one-hot or a mask over the batch, where zero times NaN is NaN: select with "
            "jnp.where or an index instead."
        ),
    ),
    Cause(
        code="model/segments-mixed",
        title="Texts that are packed into one row see one another.",
        harm="Every text is predicted from whatever stands before it in its row, which is not there when it is used.",
        fix=(
            "Let a query attend to keys of its own segment only, segments[:, :, None] == segments[:, None, :], beside "
            "the causal mask; reset recurrent states where a segment begins."
        ),
        explains=("model/input-ignored",),
    ),
    Cause(
        code="model/gradient-not-finite",
        title="The gradient of some examples is NaN or infinite, although their loss is finite.",
        harm="The first of them that is drawn makes every parameter NaN.",
        fix=(
            "Look at them for the root, norm, standard deviation or logarithm of zero, or a division by zero. Guard "
            "the argument, jnp.sqrt(jnp.maximum(x, 1e-12)): jnp.where around the result does not guard the gradient."
        ),
        explains=AFTER_NAN,
    ),
    Cause(
        code="model/prepare-mixes-examples",
        title="prepare uses the other examples of the batch.",
        harm="The same example is prepared differently in another batch.",
        fix="Compute means, deviations and ranges once, over the training data, and apply them as constants.",
    ),
    Cause(
        code="model/causal-mask-missing",
        title="An output sees the future.",
        harm="The model copies what it should predict, and fails where the future is not there.",
        fix=(
            "Mask the scores above the diagonal with jnp.tril before the softmax; pad convolutions on the left "
            "only; run recurrent layers forwards. If it may see the future, do not declare causal."
        ),
    ),
    Cause(
        code="model/causal-mask-off-by-one",
        title="Each output sees one position too many.",
        harm="The model copies the next token instead of predicting it.",
        fix="Use jnp.tril(..., k=0), and pad kernel size - 1 on the left.",
    ),
    Cause(
        code="model/positions-mixed",
        title="Positions or heads are mixed by a reshape.",
        harm="An output sees positions it should not, or misses those it should see.",
        fix="Transpose before heads are merged: [batch, heads, time, d] to [batch, time, heads, d], then reshape.",
    ),
    Cause(
        code="model/input-ignored",
        title="An input never reaches the outputs.",
        harm="The model predicts without it.",
        fix=(
            "It is dropped, overwritten, multiplied by zero, or hidden behind a stop_gradient or a dead "
            "activation. If it is not meant for the model, leave it out in prepare."
        ),
    ),
    Cause(
        code="model/input-partly-ignored",
        title="Parts of an input never reach the outputs.",
        harm="The model predicts without them.",
        fix=(
            "Look for a slice that is too short, a crop or stride that skips parts, or a pooling that keeps one "
            "position only."
        ),
    ),
    Cause(
        code="model/padding-seen",
        title="Padding influences the outputs.",
        harm="Predictions depend on how long a batch was padded.",
        fix="Pass the mask to attention, pooling and recurrence, so that padded positions have no influence.",
    ),
    Cause(
        code="model/unused-parameters",
        title="Parameters get no gradient.",
        harm="That part of the model learns nothing.",
        fix=(
            "Follow them to the loss: a layer that is never called, a stop_gradient, a dead activation, a "
            "product with zero. If that is meant, declare Task(frozen=...)."
        ),
    ),
    Cause(
        code="model/no-gradient",
        title="No parameter gets a gradient.",
        harm="Nothing is learned.",
        fix=(
            "Look for a softmax over a single output, a stop_gradient, dead activations, or a metric used as the loss."
        ),
    ),
    Cause(
        code="model/dead-units",
        title="Many units never get a gradient.",
        harm="That share of the layer is not there.",
        fix="Lower the learning rate, look at the bias and scale of their initialization, or use a leaky activation.",
    ),
    Cause(
        code="model/identical-units",
        title="All units of a layer start alike.",
        harm="They get the same gradient and stay copies of one unit.",
        fix="Initialize kernels at random, not with a constant.",
    ),
    Cause(
        code="model/zero-initialization",
        title="Kernels start at zero.",
        harm="No signal and no gradient gets through.",
        fix=(
            "Initialize kernels at random (lecun_normal, he_normal); only biases and last layers of branches "
            "start at zero."
        ),
    ),
    Cause(
        code="model/initialization-too-large",
        title="Initial weights are too large for their fan-in.",
        harm="The untrained model is very sure of wrong answers, and training first unlearns that.",
        fix="Use an initializer that knows the fan-in (lecun_normal, he_normal), and start the last layer small.",
    ),
    Cause(
        code="model/starts-far-off",
        title="The untrained model is far from the constant predictor.",
        harm="The first thing training does is to unlearn the initialization.",
        fix="Scale the inputs, start the last layer small, put the mean of the targets into the final bias.",
    ),
    Cause(
        code="model/knows-too-much",
        title="The untrained model beats every constant predictor.",
        harm="An untrained model cannot know the answer: something leaks, or the loss does not measure.",
        fix=(
            "Look for the label among the inputs, a mask or weight that drops every example, or a loss divided "
            "twice. If it is pretrained, declare it with expect."
        ),
    ),
    Cause(
        code="model/final-bias-ignores-prior",
        title="The final bias does not say what the targets are on average.",
        harm="The first steps are spent on learning it: the loss curve starts like a hockey stick.",
        fix="Set the final bias to the constant predictor's output.",
    ),
    Cause(
        code="model/no-final-bias",
        title="The last layer cannot shift its outputs to the mean of the targets.",
        harm="The whole network has to make up for it.",
        fix="Give the last layer a bias, or center the targets.",
    ),
    Cause(
        code="model/outputs-confined",
        title="An activation, clip or normalization confines the outputs.",
        harm="Outputs outside of its range cannot be reached, so the loss stays above its minimum.",
        fix="Return the final layer's outputs as they are, or give the targets the same range.",
    ),
    Cause(
        code="model/saturating-activation",
        title="A saturating activation (softmax, sigmoid, tanh) stands in mid-network.",
        harm="It squashes its values and lets hardly any gradient through.",
        fix="Use relu or gelu between layers; a softmax or sigmoid belongs into the loss or into gates.",
    ),
    Cause(
        code="model/no-activation",
        title="There is no non-linearity between layers.",
        harm="Matrices in a row do what one could.",
        fix=(
            "Put an activation (relu, gelu) after each hidden layer, and check that it is applied to the value "
            "that goes on."
        ),
    ),
    Cause(
        code="model/signal-fades",
        title="The inputs hardly move the outputs.",
        harm="The gradient is as faint as the signal.",
        fix=(
            "Look for saturating activations, many layers without normalization or residual connections, and "
            "initial values that are too small."
        ),
    ),
    Cause(
        code="model/no-better-than-linear",
        title="A linear model fits the same examples better.",
        harm="The depth of the model is not used, or not trained.",
        fix=(
            "Look for saturating activations or a bottleneck, missing residual or normalization layers, an "
            "initialization or learning rate that does not suit this model."
        ),
    ),
    Cause(
        code="model/capacity-does-not-help",
        title="Larger models do not fit the training data better.",
        harm="The larger models are not trained as they could be.",
        fix=(
            "They probably need another initialization, normalization or learning rate, or have a bottleneck "
            "that does not grow."
        ),
    ),
    Cause(
        code="model/constant-outputs",
        title="All examples get the same output although their inputs differ.",
        harm="The model cannot tell its inputs apart.",
        fix=(
            "Look for dead activations, an input that is ignored or blank, or a learning rate that killed the "
            "units in the first steps."
        ),
    ),
    Cause(
        code="model/dropout-too-strong",
        title="The model's own randomness moves its outputs more than the inputs do.",
        harm="The signal drowns.",
        fix="Lower the dropout rate (drop and keep rates mixed up?), or the noise that is added.",
    ),
    Cause(
        code="model/dropout-on-outputs",
        title="Dropout stands behind the last layer.",
        harm="The loss is taken of outputs that were thrown away.",
        fix="Move it in front of the last layer.",
    ),
    Cause(
        code="model/does-not-memorize",
        title="A few examples cannot be memorized.",
        harm="A set-up that cannot fit eight examples has a bug, and everything else would be built on it.",
        fix="Look at the curve and at the outputs in the evidence, and take the causes one by one.",
    ),
    Cause(
        code="model/not-expressive",
        title="The model does not learn the examples under any optimizer that was tried.",
        harm="Everything else would be built on a model that cannot learn.",
        fix=(
            "Check that inputs and targets belong together and arrive as they should, that the targets are what "
            "the loss expects, and that the model can express them."
        ),
    ),
)
