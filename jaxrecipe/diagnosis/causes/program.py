"""Causes that lie in what a step carries from call to call, and in the program that it is compiled to."""

from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        code="step/piece-not-returned",
        title="A part of the state goes into the step and does not come back.",
        harm="What the step makes of it is thrown away.",
        fix="Return it with the new state. If it is a constant, as a teacher's parameters, say so with expect.",
    ),
    Cause(
        code="step/copy-stands-still",
        title="A copy of the parameters never follows them.",
        harm="An average or a target network that stays where it began is that of an untrained model.",
        fix="Update the average in the step, and return it. If it is a reference that is meant to stay, expect it.",
    ),
    Cause(
        code="step/gradient-not-finite",
        title="The new state is not finite although the loss is.",
        harm="After this step every parameter is NaN.",
        fix=(
            "A gradient is infinite where the function is not: sqrt or a norm at 0, a division in the branch of a "
            'jnp.where that is not taken. jax.config.update("jax_debug_nans", True) shows the operation.'
        ),
    ),
    Cause(
        code="step/key-used-twice",
        title="One key is used for several draws within a step.",
        harm="Numbers that should be independent are the same.",
        fix="Split the key once for each draw (jax.random.split).",
    ),
    Cause(
        code="step/recompiles",
        title="The step is compiled again and again.",
        harm="Compiling takes a thousand times as long as a step.",
        fix=(
            "Call jax.jit once, outside of the loop, on a function that is not made anew; pass numbers that change as "
            'arrays, not as static arguments or fields. jax.config.update("jax_explain_cache_misses", True) says why.'
        ),
    ),
    Cause(
        code="step/not-compiled",
        title="The step is not compiled.",
        harm="Every operation is started from Python one by one.",
        fix="Put the whole step into one function under jax.jit (nnx.jit, eqx.filter_jit).",
    ),
    Cause(
        code="step/host-callback",
        title="The step calls Python from inside of its program.",
        harm="The device waits for Python in every step.",
        fix="Remove jax.debug.print, pure_callback and io_callback from the step once they are no longer needed.",
    ),
    Cause(
        code="step/captured-arrays",
        title="Large arrays are baked into the program of the step.",
        harm="They are copied into every program that is compiled from it, and compiling is slow.",
        fix="Pass data as an argument of the step in place of closing over it.",
    ),
    Cause(
        code="step/state-not-donated",
        title="A large state is not donated.",
        harm="The old and the new state are held at the same time.",
        fix="jax.jit(step, donate_argnums=0), and use only what the step returns.",
    ),
    Cause(
        code="step/mixed-devices",
        title="The arrays of a state lie on different devices.",
        harm="They are copied from device to device in every step, or refused.",
        fix="Put the whole state where it belongs with one jax.device_put.",
    ),
    Cause(
        code="step/mixed-widths",
        title="A few arrays of the state are wider than the rest.",
        harm="What they meet is computed in float64, at a fraction of the speed.",
        fix="Make them float32, or switch jax_enable_x64 off.",
    ),
    Cause(
        code="data/same-batch",
        title="Every batch is the same.",
        harm="All other data are never used.",
        fix="Ask one iterator for the next batch; iter(loader) in the loop begins anew each time. Whoever trains on "
        "all data at once means it so.",
    ),
)
