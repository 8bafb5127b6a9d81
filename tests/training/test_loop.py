"""`fit`: record, evaluation, checkpoints, resuming after a kill, interrupts and giving up."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe import trees
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.training.checkpoints import checkpoint_steps, checkpoint_writer, restore_checkpoint
from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.loop import fit
from jaxrecipe.training.metrics_log import jsonl_writer
from jaxrecipe.training.record import raise_if_lost
from jaxrecipe.training.steps import new_state


def test_learns_and_says_what_it_did(make_task: Any) -> None:
    task = make_task(noisy=False)
    done = fit(task, epochs=15, evaluate_every=50)
    assert list(done.history["step"]) == list(range(1, 106))
    assert {"loss", "accuracy", "grad_norm", "param_norm", "update_norm", "count", "seconds"} < set(done.history)
    assert all(len(values) == 105 for values in done.history.values())
    assert np.mean(done.history["loss"][-7:]) < 0.5 * np.mean(done.history["loss"][:7])
    assert (np.diff(done.history["seconds"]) >= 0).all()
    assert list(done.evaluations) == [50, 100, 105]
    assert done.evaluation is not None
    assert done.evaluation.values == evaluate(task, done.state.params, done.state.model_state).values
    assert done.evaluation["accuracy"].value > 0.6
    assert (done.resumed_from, done.interrupted, dict(done.damaged)) == (None, False, {})


def test_evaluations_on_the_way_are_of_the_state_on_the_way(make_task: Any) -> None:
    task = make_task()
    on_the_way = fit(task, steps=6, evaluate_every=3).evaluations
    assert on_the_way[3].values == fit(task, steps=3).evaluations[3].values


def test_same_seed_same_bits_and_the_given_state_is_left_alone(make_task: Any, same: Any) -> None:
    task = make_task()
    state = new_state(task)
    before = trees.copy(state)
    one, other = fit(task, steps=9, state=state), fit(task, steps=9)
    assert same(one.state, other.state)
    assert same(state, before)
    assert not same(fit(task, steps=9, seed=1).state.params, one.state.params)


def test_every_step_and_evaluation_is_written_in_order(make_task: Any) -> None:
    written: list[tuple[int, dict[str, float]]] = []
    done = fit(
        make_task(),
        steps=7,
        steps_per_call=2,
        evaluate_every=3,
        write=lambda step, metrics: written.append((step, dict(metrics))),
    )
    training = [(step, metrics) for step, metrics in written if "loss" in metrics]
    assert [step for step, _ in training] == list(range(1, 8))
    assert [metrics["loss"] for _, metrics in training] == [float(loss) for loss in done.history["loss"]]
    # A call of two steps reaches step 3 at step 4.
    assert [step for step, metrics in written if "test/loss" in metrics] == [4, 6, 7] == list(done.evaluations)
    assert [step for step, _ in written] == [1, 2, 3, 4, 4, 5, 6, 6, 7, 7]
    assert all(type(value) is float for _, metrics in written for value in metrics.values())


def test_prints_nothing(make_task: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fit(make_task(), steps=4, checkpoints=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_running_again_goes_on_from_the_checkpoint(make_task: Any, same: Any, tmp_path: Path) -> None:
    task = make_task()
    with jsonl_writer(tmp_path / "log.jsonl") as write:
        first = fit(task, steps=5, checkpoints=tmp_path / "run", save_every=2, write=write)
    assert checkpoint_steps(tmp_path / "run") == [2, 4, 5]
    with jsonl_writer(tmp_path / "log.jsonl") as write:
        second = fit(task, steps=11, checkpoints=tmp_path / "run", write=write)
    assert (first.resumed_from, second.resumed_from) == (None, 5)
    assert list(second.history["step"]) == [6, 7, 8, 9, 10, 11]
    assert same(second.state, fit(task, steps=11).state)
    again = fit(task, steps=11, checkpoints=tmp_path / "run")
    assert (again.resumed_from, len(again.history)) == (11, 0)
    assert again.evaluation is not None
    assert same(again.state, second.state)
    steps = [line.split(",")[0] for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == [f'{{"step": {step}' for step in range(1, 12)]


def test_goes_on_from_the_step_before_a_damaged_one_and_says_so(make_task: Any, same: Any, tmp_path: Path) -> None:
    task = make_task()
    fit(task, steps=6, checkpoints=tmp_path, save_every=3)
    damaged = max((tmp_path / "6" / "manifest").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes().replace(b"float32", b"float64", 1))
    done = fit(task, steps=8, checkpoints=tmp_path, save_every=3)
    assert done.resumed_from == 3
    assert list(done.damaged) == [6]
    assert "manifest" in done.damaged[6]
    assert same(done.state, fit(task, steps=8).state)
    assert checkpoint_steps(tmp_path) == [3, 6, 8]
    assert (tmp_path / "6.damaged").is_dir()


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({}, {"seed": 1}, "seed was 0, is 1"),
        ({"batch_size": 10}, {}, "batch_size was 8, is 10"),
        ({"size": 49}, {}, "examples was 50, is 49"),
        ({"loss_scale": dynamic_loss_scale()}, {}, "loss_scale was none, is dynamic"),
        ({"noisy": False}, {}, r"model_state/mean was float32\[6\], is nothing"),
    ],
)
def test_another_run_is_not_resumed(make_task: Any, tmp_path: Path, changes: Any, options: Any, told: str) -> None:
    fit(make_task(), steps=2, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=told):
        fit(make_task(**changes), steps=3, checkpoints=tmp_path, **options)


def test_contradictions_are_refused(make_task: Any, tmp_path: Path) -> None:
    task = make_task()
    done = fit(task, steps=3, checkpoints=tmp_path / "run")
    for wrong, told in (
        ({}, "steps=None and epochs=None"),
        ({"steps": 1, "epochs": 1}, "one of the two"),
        ({"steps": -1}, "0 or more"),
        ({"steps": 5, "evaluate_every": 0, "save_every": -2}, "evaluate_every=0, save_every=-2"),
        ({"steps": 2, "checkpoints": tmp_path / "run"}, "at step 3 already"),
    ):
        with pytest.raises(ValueError, match=told):
            fit(task, **wrong)
    further = fit(task, steps=4, state=done.state)
    with pytest.raises(ValueError, match="holds step 3 of a run, but the given state is at step 4"):
        fit(task, steps=5, state=further.state, checkpoints=tmp_path / "run")
    with checkpoint_writer(tmp_path / "run"), pytest.raises(BlockingIOError):
        fit(task, steps=5, checkpoints=tmp_path / "run")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own answer to Ctrl-C, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_one_interrupt_ends_the_run_whole_and_resumable(make_task: Any, same: Any, tmp_path: Path) -> None:
    def interrupt(step: int, metrics: Mapping[str, float]) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    task, before = make_task(), signal.getsignal(signal.SIGINT)
    stopped = fit(task, steps=12, checkpoints=tmp_path, write=interrupt)
    assert stopped.interrupted
    # Step 5 was under way when step 4 was reported.
    assert int(stopped.state.step) == 5 == stopped.history["step"][-1]
    assert same(stopped.state, fit(task, steps=5).state)
    assert stopped.evaluation is None
    assert signal.getsignal(signal.SIGINT) is before
    assert same(fit(task, steps=12, checkpoints=tmp_path).state, fit(task, steps=12).state)


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_interrupt_raises(make_task: Any) -> None:
    def insist(step: int, metrics: Mapping[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(make_task(), steps=12, write=insist)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_is_left_in_force(make_task: Any) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        done = fit(make_task(), steps=3, write=lambda step, _: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not done.interrupted
    assert len(seen) == 4  # three steps and an evaluation


def test_a_nan_ends_training_and_is_not_saved(make_task: Any, tmp_path: Path) -> None:
    def from_step(key: Any, inputs: Any, targets: Any) -> Any:
        return inputs * jnp.where(inputs.max() > 0.95, jnp.nan, 1.0), targets

    inputs, targets = make_task().train
    inputs = np.minimum(inputs, 200)
    inputs[3] = 255
    task = make_task(train=(inputs, targets), augment=from_step)
    with pytest.raises(FloatingPointError, match=r"broke down at step (\d+): loss nan, grad_norm nan") as caught:
        fit(task, epochs=2, checkpoints=tmp_path, save_every=1)
    at = int(str(caught.value).split("step ")[1].split(":")[0])
    assert max(checkpoint_steps(tmp_path), default=0) == at - 1
    restored = restore_checkpoint(tmp_path, new_state(task))
    assert restored is None or bool(trees.all_finite(restored.state.params))


def test_giving_up_after_too_many_skipped_steps_names_the_parameter(make_task: Any) -> None:
    task = make_task(
        augment=None,
        prepare=lambda inputs, targets: (inputs.astype(jnp.float32) * jnp.inf, targets),
        loss_scale=dynamic_loss_scale(),
    )
    with pytest.raises(FloatingPointError, match=r"5 steps in a row were skipped up to step 5.*: gradients/b is not"):
        fit(task, epochs=2, give_up_after=5)


def test_giving_up_looks_at_every_step_of_a_call(make_task: Any) -> None:
    rows = {
        "step": np.array([7, 8, 9]),
        "loss": np.array([1.0, np.inf, 1.0]),
        "grad_norm": np.ones(3),
        "param_norm": np.ones(3),
    }
    with pytest.raises(FloatingPointError, match="step 8: loss inf, grad_norm 1, param_norm 1"):
        raise_if_lost(rows, new_state(make_task()), "none", 20)


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("killed_run.py")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_resuming_after_a_real_kill_gives_the_same_bits(make_task: Any, same: Any, tmp_path: Path) -> None:
    killed = run(tmp_path / "killed", 17, 11)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    saved = checkpoint_steps(tmp_path / "killed")
    assert saved
    assert saved[-1] in (6, 9)
    resumed = run(tmp_path / "killed", 17)
    assert resumed.stdout.strip() == str(saved[-1]), resumed.stderr
    whole = run(tmp_path / "whole", 17)
    assert whole.stdout.strip() == "None", whole.stderr
    template = new_state(make_task())
    states = [restore_checkpoint(tmp_path / name, template, step=17) for name in ("killed", "whole")]
    assert all(state is not None for state in states)
    assert same(*(state.state for state in states if state is not None))
    assert not same(states[0].state.params, jax.tree.map(jnp.zeros_like, template.params))  # pyright: ignore
    assert not list((tmp_path / "killed").glob("*tmp*"))
