"""Causes that lie in the optimizer: learning rate, schedule, clipping, decay, masks."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="optimizer/learning-rate-too-high",
        title="The learning rate is too high.",
        harm="Steps jump over what they aim for, units die, and the loss diverges or hovers.",
        fix="Try a tenth, then a hundredth, and a warm-up.",
    ),
    Cause(
        code="optimizer/learning-rate-too-low",
        title="The learning rate is too low.",
        harm="Training takes many times longer than it needs, or never arrives.",
        fix="Raise it in steps of ten until the loss no longer falls.",
    ),
    Cause(
        code="optimizer/diverged",
        title="Training diverges.",
        harm="Parameters become NaN and stay so.",
        fix=(
            "Try a hundredth of the learning rate; look for an operation that overflows (log of zero, division "
            "by zero, half precision)."
        ),
    ),
    Cause(
        code="optimizer/schedule-run-down",
        title="The learning-rate schedule has run down.",
        harm="Nothing is learned from there on.",
        fix="optax schedules count steps, not epochs: give it epochs times steps an epoch.",
    ),
    Cause(
        code="optimizer/warm-up-too-long",
        title="The learning-rate schedule is still near zero.",
        harm="Nothing is learned until it has warmed up.",
        fix="Count the warm-up in steps, not in examples or epochs.",
    ),
    Cause(
        code="optimizer/schedule-outlasts-training",
        title="The learning-rate schedule is made for a longer run.",
        harm="Training ends before the rate has come down, so the last, small steps are never taken.",
        fix="Give it the updates of the run: steps, divided by those that optax.MultiSteps collects gradients of.",
    ),
    Cause(
        code="optimizer/schedule-stands-still",
        title="The learning-rate schedule stands still.",
        harm="Every step has the rate of step 0.",
        fix="Carry its counter in the state, and advance it at every update.",
    ),
    Cause(
        code="optimizer/clipping-too-tight",
        title="The gradient clipping is so tight that steps are tiny.",
        harm="The clip norm is the learning rate.",
        fix="Clip at a norm that usual gradients keep (1 for means over a batch).",
    ),
    Cause(
        code="optimizer/weight-decay-too-strong",
        title="Weight decay swamps the gradient.",
        harm="Parameters shrink to nothing before they learn.",
        fix="Lower the weight decay by orders of magnitude.",
    ),
    Cause(
        code="optimizer/decay-not-declared",
        title="The step decays parameters, which the declared optimizer does not.",
        harm="Parameters shrink that should not.",
        fix="Declare the decay in the optimizer (optax.adamw), or drop it from the step.",
    ),
    Cause(
        code="optimizer/clipping-not-declared",
        title="The step clips the gradient, which the declared optimizer does not.",
        harm="What is checked is not what runs.",
        fix="Make the clipping part of the declared optimizer (optax.clip_by_global_norm).",
    ),
    Cause(
        code="optimizer/clipping-left-out",
        title="The declared optimizer clips the gradient and the step does not.",
        harm="Rare large gradients are not cut as declared.",
        fix="Clip the gradient inside the step too, or take the clipping out of the declaration.",
    ),
    Cause(
        code="optimizer/schedule-not-declared",
        title="The learning rate follows another schedule than the declared one.",
        harm="What is checked is not what runs.",
        fix="Declare the schedule as part of the optimizer, and let one counter, advanced at each update, drive it.",
    ),
    Cause(
        code="optimizer/unintended-freeze",
        title="Parameters get a gradient but do not move.",
        harm="That part of the model learns nothing.",
        fix=(
            "Look for a mask or label left over from fine-tuning, or updates that are not applied. If that is "
            "meant, declare Task(frozen=...)."
        ),
    ),
    Cause(
        code="optimizer/declared-frozen-moves",
        title="Parameters that are declared frozen move.",
        harm="What was pretrained is lost.",
        fix=(
            "The mask does not match their paths, masked passes their gradients through (use set_to_zero), or "
            "weight decay reaches them."
        ),
    ),
    Cause(
        code="optimizer/masked-passes-gradient",
        title="Some parameters move by their raw gradient, uphill.",
        harm="The loss is pushed up by what was meant to be left alone.",
        fix=(
            "optax.masked hands on, unchanged, what lies outside of its mask. Use optax.multi_transform with "
            "optax.set_to_zero for what is frozen."
        ),
        explains=(
            "optimizer/declared-frozen-moves",
            "optimizer/diverged",
            "optimizer/learning-rate-too-high",
            "optimizer/cause-in-optimizer",
            "step/goes-uphill",
            "loss/not-finite",
            "loss/sign-flipped",
            "data/inputs-do-not-help",
            "model/does-not-memorize",
        ),
    ),
    Cause(
        code="optimizer/clipping-counts-frozen",
        title="Clipping counts the gradients of frozen parameters.",
        harm="What is trained gets a fraction of its step, which changes with gradients that nobody uses.",
        fix=(
            "Clip inside of the part that trains: multi_transform with optax.chain(clip_by_global_norm(...), ...) "
            "for it and optax.set_to_zero for the rest."
        ),
        explains=("optimizer/learning-rate-too-low", "optimizer/clipping-too-tight", "optimizer/cause-in-optimizer"),
    ),
    Cause(
        code="optimizer/batch-too-small",
        title="The batch is so small that every step follows single examples.",
        harm="Steps undo each other, and BatchNorm has no statistics to speak of.",
        fix="Use a larger batch, accumulate gradients over several, or lower the learning rate by far.",
    ),
    Cause(
        code="optimizer/cause-in-optimizer",
        title="Plain Adam learns what your optimizer does not.",
        harm="The model and the loss are sound; the optimizer holds them back.",
        fix="Look at the learning rate and its schedule, weight decay, clipping, momentum, and noise in the step.",
    ),
    Cause(
        code="optimizer/regularization-too-strong",
        title="Regularization keeps the loss away from its minimum.",
        harm="The model cannot fit even a few examples.",
        fix="Look at strong dropout, weight decay and noise in the step.",
    ),
)
