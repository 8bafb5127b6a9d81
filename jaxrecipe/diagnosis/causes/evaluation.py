"""Causes that lie in evaluation, prediction and checkpoints."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="evaluation/last-batch-dropped",
        title="Evaluation drops the last batch when it is not full.",
        harm="Its examples are never counted.",
        fix="Pad it and mask the padding, or take a smaller last batch.",
    ),
    Cause(
        code="evaluation/mean-of-batch-means",
        title="Evaluation averages the means of batches.",
        harm="The examples of a smaller last batch weigh more.",
        fix="Sum over examples and divide once by their number.",
    ),
    Cause(
        code="evaluation/padding-counted",
        title="Evaluation counts padding.",
        harm="The score includes examples or tokens that are none.",
        fix="Mask it before you sum, and divide by the number of real ones.",
    ),
    Cause(
        code="evaluation/wrong-divisor",
        title="Evaluation divides its sum by the wrong number.",
        harm="The score is off by a factor that depends on the batch size.",
        fix="Count the examples that were summed, not batches times batch size.",
    ),
    Cause(
        code="evaluation/one-batch-only",
        title="Evaluation keeps one batch only.",
        harm="The score is that of a few examples.",
        fix="Add to the running sum instead of overwriting it (or returning inside the loop).",
    ),
    Cause(
        code="evaluation/counted-twice",
        title="Every example counts twice.",
        harm="The score is off by a factor of two.",
        fix="Divide by the number of examples that were summed.",
    ),
    Cause(
        code="evaluation/sum-not-mean",
        title="Evaluation returns a sum and not a mean.",
        harm="The score depends on how much data there are.",
        fix="Divide by the number of examples.",
    ),
    Cause(
        code="evaluation/half-precision-sum",
        title="Evaluation sums in half precision.",
        harm="The sum stops growing.",
        fix="Sum in float32 or on the host.",
    ),
    Cause(
        code="evaluation/stale-parameters",
        title="Evaluation uses parameters or statistics of before.",
        harm="The score is not that of the model that was trained.",
        fix="Read parameters and statistics from the state that it is given, not from a copy made earlier.",
        explains=("step/updates-thrown-away", "optimizer/cause-in-optimizer", "evaluation/other-definition"),
    ),
    Cause(
        code="evaluation/schedule-free-weights",
        title="The weights that a schedule-free optimizer trains are evaluated, and not their average.",
        harm="They go to and fro where no schedule calms them; what the method promises, it promises of the average.",
        fix=(
            "Evaluate and save optax.contrib.schedule_free_eval_params(opt_state, params); go on training with the "
            "params themselves."
        ),
        explains=("evaluation/other-definition",),
    ),
    Cause(
        code="evaluation/training-mode",
        title="The model is evaluated in training mode.",
        harm="Dropout and batch statistics are on, so predictions are random or depend on the batch.",
        fix="Pass train=False (deterministic=True, use_running_average=True), and use the running statistics.",
    ),
    Cause(
        code="evaluation/augmented",
        title="Examples are augmented at evaluation.",
        harm="The score is that of other examples, and random.",
        fix=(
            "Augment training batches only (Task(augment=...)), not what predict and evaluate are given; what draws "
            "random numbers does not belong in prepare, which runs at evaluation too."
        ),
    ),
    Cause(
        code="evaluation/training-split",
        title="Evaluation runs over the training data.",
        harm="Overfitting cannot be seen.",
        fix="Evaluate the data that it is given.",
    ),
    Cause(
        code="evaluation/ignores-given-examples",
        title="Evaluation has data of its own and ignores the examples that it is given.",
        harm="It cannot be checked for batch size, order and size, and reports the same number for any data.",
        fix="Use the inputs and targets that evaluate is given, and the parameters of the state that it is given.",
    ),
    Cause(
        code="evaluation/refuses-batch-size",
        title="Evaluation does not take every batch size.",
        harm="Sets that are no whole number of batches cannot be evaluated, or not wholly.",
        fix="Pad the last batch and mask the padding, and let a batch be larger than the set.",
    ),
    Cause(
        code="evaluation/metric-by-batch",
        title="A metric that is no mean over examples is computed batch by batch.",
        harm="It depends on batch size and order, and means something else than its name.",
        fix=(
            "If it is a mean over examples, sum and divide once. AUC, F1 and the like have to be computed from all "
            "predictions at once."
        ),
    ),
    Cause(
        code="evaluation/other-definition",
        title="Evaluation defines a number in another way than the task does.",
        harm="Two numbers of one name cannot be compared.",
        fix=(
            "If that is meant (another weighting, no label smoothing, per token), give the task the same definition or "
            "another name. If not, look at what evaluate does to inputs and outputs."
        ),
    ),
    Cause(
        code="evaluation/random",
        title="Evaluation is random.",
        harm="The same model gets another score each time.",
        fix=(
            "Switch dropout, noise and augmentation off when train is False. If it is random by design, say so "
            "with expect."
        ),
    ),
    Cause(
        code="evaluation/not-exact",
        title="Evaluation is not the mean over all examples.",
        harm="The score depends on batch size or order.",
        fix="Sum over all examples and divide once by their number.",
    ),
    Cause(
        code="evaluation/other-predictions",
        title="predict does not use the model in evaluation mode with the state's own parameters.",
        harm="What is deployed is not what was evaluated.",
        fix="Look for training mode left on, stale parameters or another preparation.",
    ),
    Cause(
        code="evaluation/state-changed",
        title="Evaluation changes the model's state.",
        harm="Test data leak into the model.",
        fix="Use the stored statistics (use_running_average=True) and drop the returned state.",
    ),
    Cause(
        code="evaluation/checkpoint-incomplete",
        title="A checkpoint does not hold the whole state.",
        harm="Training goes on differently after a restart.",
        fix="Save and restore the whole state: parameters, model state, optimizer state, step, key and loss scale.",
    ),
    Cause(
        code="evaluation/checkpoint-fails",
        title="Saving or restoring raises an error.",
        harm="Nothing survives a restart.",
        fix=(
            "save gets the state and an existing empty directory; restore gets the same directory and a fresh "
            "state as the template."
        ),
    ),
    Cause(
        code="evaluation/state-outside",
        title="The step keeps something outside of its state.",
        harm="It is lost in a restart.",
        fix="Put counters, generators and globals into the state, so that they are saved.",
    ),
    Cause(
        code="evaluation/restore-changes-type",
        title="What is restored has another structure or dtype than what was saved.",
        harm="The step compiles anew or fails, and numbers may be rounded.",
        fix="Rebuild the state's own type in restore.",
    ),
)
