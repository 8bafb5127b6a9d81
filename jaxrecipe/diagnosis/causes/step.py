"""Causes that lie in the training step, its randomness and its state."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="step/updates-thrown-away",
        title="The updates are computed and thrown away.",
        harm="No parameter moves.",
        fix="Assign what optax.apply_updates returns, and put it into the state that the step returns.",
    ),
    Cause(
        code="step/gradients-accumulate",
        title="Gradients of earlier steps are added to each step's own.",
        harm="Every step follows gradients that are long out of date.",
        fix=(
            "Start each step from fresh gradients (what jax.value_and_grad returns); do not add to a buffer "
            "that is never cleared."
        ),
    ),
    Cause(
        code="step/accumulates-sum",
        title="Gradients are collected over several batches and summed, not averaged.",
        harm="The learning rate is that many times what is declared.",
        fix="Divide by the number of batches.",
    ),
    Cause(
        code="step/micro-batches-weigh-alike",
        title="Micro-batches are each divided by their own count and then averaged.",
        harm="Tokens of short micro-batches weigh more: the mean of means is not the mean.",
        fix="Add up gradients of sums, and divide once by the number of tokens of all micro-batches (on all devices).",
    ),
    Cause(
        code="step/part-of-batch",
        title="The step learns from a part of its batch.",
        harm="The rest of the data is computed and thrown away.",
        fix="Take jax.lax.pmean of the gradients over the axis of the devices; add up all micro-batches.",
    ),
    Cause(
        code="step/optimizer-state-lost",
        title="The optimizer's state is not carried from step to step.",
        harm="Momentum, moments and counters start anew at every step.",
        fix=(
            "Put the state that optimizer.update returns into the state that your step returns; optimizer.init "
            "belongs before the loop."
        ),
    ),
    Cause(
        code="step/goes-uphill",
        title="The steps go up the gradient.",
        harm="Training makes the model worse.",
        fix=(
            "A sign is flipped: of the loss, of the gradient, or in how the updates are added "
            "(optax.apply_updates adds)."
        ),
    ),
    Cause(
        code="step/same-batch",
        title="Every step uses the gradient of the first batch.",
        harm="All other data are never used.",
        fix="The step closes over a batch: use the arguments of the step.",
    ),
    Cause(
        code="step/evaluation-mode",
        title="The step takes the gradient in evaluation mode.",
        harm="Dropout is off and normalization statistics never move.",
        fix=(
            "Call the model with train=True in the step, with a key for dropout. If that is meant, as in some "
            "fine-tuning, say so with expect."
        ),
    ),
    Cause(
        code="step/scaled",
        title="The steps are a constant multiple of the declared optimizer's.",
        harm="The learning rate is not what is declared.",
        fix="Look for a sum where a mean was meant, a loss divided twice, or a loss scale that is not undone.",
    ),
    Cause(
        code="step/not-the-declared-rule",
        title="The step is not the declared optimizer's, and no usual mistake explains it.",
        harm="What is trained is not what is declared.",
        fix=(
            "If this is a rule of your own, make it part of the declared optimizer, or say so with expect. "
            "Otherwise compare it with value_and_grad, optimizer.update and apply_updates line by line; look for "
            "another "
            "loss, another optimizer than the declared one, or a batch that is changed inside the step."
        ),
    ),
    Cause(
        code="step/statistics-thrown-away",
        title="The batch statistics are thrown away.",
        harm="Evaluation uses the initial mean and variance.",
        fix="Put the model state that the training forward pass returns into the next state.",
    ),
    Cause(
        code="step/statistics-differ",
        title="The model state is not what the forward pass of the step returns.",
        harm="Evaluation uses statistics of something else.",
        fix="Put the model state that the forward pass of this step returns into the next state, unchanged and once.",
    ),
    Cause(
        code="step/not-reproducible",
        title="The same seed does not give the same run.",
        harm="No result can be repeated, and no bug can be bisected.",
        fix="Draw from the key and nothing else: no generator of numpy or Python, no global, no clock.",
    ),
    Cause(
        code="step/initialization-not-reproducible",
        title="The initial parameters do not follow from the key.",
        harm="No run can be repeated.",
        fix="Draw from the key that init is given, and from nothing else.",
    ),
    Cause(
        code="step/data-not-reproducible",
        title="The data do not follow from the seed.",
        harm="No run can be repeated.",
        fix="Draw only from the key that augment is given; seed every loader worker, differently.",
    ),
    Cause(
        code="step/key-reused",
        title="The same key is used at every step.",
        harm="Dropout and noise are the same pattern for ever.",
        fix=(
            "Fold the step into the key inside the step (jax.random.fold_in(key, state.step)), or split a new "
            "key for each step."
        ),
    ),
    Cause(
        code="step/augmentation-key-reused",
        title="The augmentation does not draw from its key.",
        harm="Every example is always changed alike.",
        fix="Draw from the key that augment is given, which is another one at every step.",
    ),
    Cause(
        code="step/augmentation-misaligns",
        title="augment moves inputs to other examples and leaves the targets where they were.",
        harm="Inputs come with the targets of other examples.",
        fix="Move both alike, or neither.",
    ),
    Cause(
        code="step/augmentation-mixes-inputs",
        title="augment mixes the inputs of different examples and not their targets.",
        harm="Targets no longer say what is to be seen.",
        fix=(
            "Draw and apply it for each example (jax.vmap over examples and keys), or mix the targets too and "
            "declare mixes_examples=True."
        ),
    ),
    Cause(
        code="step/augmentation-mixes-examples",
        title="augment mixes examples, inputs and targets alike, as mixup does, which is not declared.",
        harm="Checks that compare examples cannot know that it is meant.",
        fix="If it is meant, declare mixes_examples=True. Otherwise draw and apply it for each example.",
    ),
    Cause(
        code="step/reports-sum",
        title="The loss that the step reports is a sum over the batch.",
        harm="The learning rate, or at least the curve, depends on the batch size.",
        fix="Take the mean over the batch.",
    ),
    Cause(
        code="step/too-much-switched-on",
        title="Many things are switched on at once.",
        harm="No surprise has one explanation any more.",
        fix="Turn them off until the plain model overfits, then bring them back one at a time, and look at each.",
    ),
)
