"""Why each library fails what it fails, as read in its source (jmp 0.0.4, mpx 0.1.8, flax 0.12.8, optax 0.2.8, torch
2.13.0).
"""

CAUSES: dict[tuple[str, str], str] = {
    (
        "jmp",
        "floor kept under jit",
    ): "`DynamicLossScale.tree_flatten` leaves `min_loss_scale` out, so it is 1 again after each jit",
    ("jmp", "floor below one"): "the same: the floor of 2**-10 becomes 1 on the way through jit",
    ("jmp", "later calls"): "the documented `jnp.asarray(2. ** 15)` is weakly typed; what `adjust` returns is not",
    (
        "jmp",
        "static 64, 128, 256",
    ): "`register_empty_pytree` makes the number part of the tree's structure, which jit compiles for",
    (
        "jmp",
        "float16 scalar loss",
    ): "the documented scale is weakly typed, so the first loss is scaled in float16: 3 times 32,768 does not fit",
    (
        "jmp",
        "clipping before the check",
    ): "the README clips after `unscale` and before `all_finite`; clipping by value makes infinity finite",
    (
        "jmp",
        "save and restore",
    ): "`__post_init__` inspects dtypes, so rebuilding the pytree with other leaves, as orbax does, raises",
    ("jmp", "hopeless run"): "no count of skipped steps; `adjust` stays at the floor without a word",
    (
        "mpx",
        "growth changes no gradient",
    ): "`filter_value_and_grad` unscales with `loss_scaling_new`, the scale after `adjust`",
    ("mpx", "logged loss on a growth step"): "the loss too is unscaled with the scale after `adjust`",
    (
        "mpx",
        "float16 scalar loss",
    ): "`scale` multiplies by the scale in float16, so a loss above 1 times 65,504 is infinite",
    ("mpx", "dtype as text"): "`set_half_precision_datatype` turns the text into a dtype and then does not store it",
    ("mpx", "exact at the default scale"): "the initial scale `FLOAT16_MAX`, 65,504, is no power of two",
    ("mpx", "hopeless run"): "no count of skipped steps; `adjust` stays at the floor without a word",
    (
        "flax DynamicScale",
        "growth after exactly N steps",
    ): "`grow` compares the steps counted before this one with `growth_interval`",
    (
        "flax DynamicScale",
        "batch statistics on a skip",
    ): "Flax's ImageNet example selects parameters and optimizer state, not `batch_stats`",
    ("flax DynamicScale", "later calls"): "`scale` and `fin_steps` start as Python numbers, which are weakly typed",
    (
        "flax DynamicScale",
        "float16 scalar loss",
    ): "`scale * loss` with a weakly typed scale stays float16: 65,536 does not fit",
    ("flax DynamicScale", "hopeless run"): "no count of skipped steps; at `minimum_scale` nothing is said",
    (
        "optax.apply_if_finite",
        "bad steps in a row",
    ): "documented: after `max_consecutive_errors` the update is accepted as it is",
    (
        "torch GradScaler",
        "batch statistics on a skip",
    ): "BatchNorm moves its buffers in the forward pass (pytorch#88474, open)",
    (
        "torch GradScaler",
        "schedule on a skip",
    ): "`step` does not tell whether it stepped; `scheduler.step()` moves on regardless",
    (
        "torch GradScaler",
        "hopeless run",
    ): "no count of skipped steps; the scale has no floor and goes to zero without a word",
}
"""(library, scenario) → what in its source or documentation makes it so."""
