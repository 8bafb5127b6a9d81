"""What the program of a step does: compiled again, calls to Python, arrays inside, operations outside."""

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.step.compiled_step import compiled_step
from jaxrecipe.report.result import Status
from tests.zoo import bare

BIG = 300_000


def jits_anew(step):
    def anew(params, opt_state, batch):
        return jax.jit(lambda *given: step.__wrapped__(*given))(params, opt_state, batch)  # noqa: PLW0108

    return anew


def prints(step):
    def talks(params, opt_state, batch):
        params, opt_state, loss = step(params, opt_state, batch)
        jax.debug.callback(lambda _: None, loss)
        return params, opt_state, loss

    return jax.jit(talks)


def closes_over_data(step):
    data = jnp.ones(BIG)
    return jax.jit(lambda *given: step(*given[:2], (given[2][0] + 0 * data.sum(), given[2][1])))


def eager(step):
    return step.__wrapped__


@pytest.mark.parametrize("name", ["in pieces", "TrainState", "NNX", "Equinox", "adversarial"])
def test_compiled_steps_pass(run, name):
    assert run(compiled_step, bare.task_of(bare.HEALTHY[name](0))).status is Status.PASS


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (jits_anew, Status.FAIL, "step/recompiles"),
        (prints, Status.WARN, "step/host-callback"),
        (closes_over_data, Status.WARN, "step/captured-arrays"),
        (eager, Status.WARN, "step/not-compiled"),
    ],
)
def test_what_is_slow_or_large_is_called_by_its_name(run, change, status, code):
    step, state, batches = bare.in_pieces()
    result = run(compiled_step, bare.task_of((change(step), state, batches)))
    assert (result.status, result.codes) == (status, (code,))


def test_a_large_state_should_be_donated(run):
    assert run(compiled_step, bare.task_of(bare.in_pieces()), state_bytes=10).codes == ("step/state-not-donated",)
    assert not run(compiled_step, bare.task_of(bare.train_state()), state_bytes=10).codes


def test_a_step_that_reads_numbers_is_undetermined_inside(run):
    step, state, batches = bare.in_pieces()

    def reads(params, opt_state, batch):
        params, opt_state, loss = step(params, opt_state, batch)
        return params, opt_state, float(loss)

    result = run(compiled_step, bare.task_of((reads, state, batches)))
    assert result.status is Status.PASS
    assert "undetermined" in result.summary
