"""Causes that lie in half precision and loss scaling."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="precision/gradients-underflow",
        title="Gradients are too small for the format and become zero.",
        harm="Those layers learn nothing.",
        fix="Use a loss scale (jr.dynamic_loss_scale()), or bfloat16, whose range is that of float32.",
    ),
    Cause(
        code="precision/gradients-overflow",
        title="Gradients overflow at the loss scale in force.",
        harm="Every step is skipped, or parameters become NaN.",
        fix="Lower the scale, or use a dynamic one.",
    ),
    Cause(
        code="precision/activations-overflow",
        title="Activations overflow in half precision.",
        harm="What comes after is NaN, or zero where it is divided by.",
        fix=(
            "Keep norms, softmax, sums and the final layer in float32 (policy overrides, or a cast to float32 "
            "inside the model)."
        ),
    ),
    Cause(
        code="precision/inaccurate-layer",
        title="A layer's gradient in half precision is not that of float32.",
        harm="The layer learns something else.",
        fix="Keep norms, softmax, sums and the final layer in float32.",
    ),
    Cause(
        code="precision/random-in-half",
        title="Half precision draws other random numbers.",
        harm="Gradients cannot be compared.",
        fix="Draw noise in float32, or set dropout to zero, and run the check again.",
    ),
    Cause(
        code="precision/updates-vanish",
        title="Updates of half-precision parameters vanish.",
        harm="1 + 0.001 is 1 in bfloat16: small steps change nothing.",
        fix=('Keep float32 masters and compute in half precision: Task(policy="bfloat16") with param_dtype float32.'),
    ),
    Cause(
        code="precision/epsilon-vanishes",
        title="The optimizer's epsilon is zero in half precision.",
        harm="A gradient of zero becomes 0/0, and parameters become NaN.",
        fix="Keep the optimizer's state in float32, or use a larger epsilon.",
    ),
    Cause(
        code="precision/scale-not-needed",
        title="A loss scale is used where it does nothing.",
        harm="It hides what is not finite behind skipped steps.",
        fix="Leave it out in float32 and bfloat16.",
    ),
    Cause(
        code="precision/scale-misplaced",
        title="The loss scale is far from where the gradients fit.",
        harm="Steps are skipped or gradients are lost while it is found.",
        fix="Start it at the advised value.",
    ),
    Cause(
        code="precision/scale-bounded-too-tightly",
        title="The scale's own bounds keep it from the advised value.",
        harm="It cannot get where the gradients fit.",
        fix="Move its floor or ceiling.",
    ),
    Cause(
        code="precision/norm-overflows",
        title="A norm summed in half precision overflows.",
        harm="Clipping multiplies by one over infinity: every update is zero.",
        fix="Take norms in float32.",
        explains=("step/updates-thrown-away", "precision/updates-vanish", "optimizer/cause-in-optimizer"),
    ),
    Cause(
        code="precision/inputs-cancel",
        title="Differences of nearly equal numbers are lost when inputs are rounded to half precision.",
        harm="What distinguishes the examples is rounded away before the first layer.",
        fix="Center and scale the inputs before they are cast, or keep the first layers in float32 (policy overrides).",
    ),
    Cause(
        code="precision/divides-by-zero",
        title="Something is divided by a number that is zero in half precision.",
        harm="Zero by zero is not a number, and spoils everything behind it.",
        fix=(
            "An epsilon below 6e-8 is zero in float16: use 1e-5 or more, and keep norms, softmax and sums in float32 "
            "(policy overrides, or a cast to float32 inside the model)."
        ),
    ),
    Cause(
        code="precision/scale-not-undone",
        title="Gradients reach the optimizer with the loss scale still on them.",
        harm="Steps are larger than declared by the loss scale.",
        fix="Divide the gradients by the loss scale before they reach the optimizer.",
    ),
)
