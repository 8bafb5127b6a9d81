"""The scenarios: each plays one situation against a trainer and says what was measured and whether it is right."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import numpy as np

from experiments.precision_peers.common import Make, NotOfferedError, Options, Trainer, rows
from jaxrecipe.compiles import counting_compiles

GOOD, BAD = rows(1.0), rows(np.inf)
SMALL = rows(2.0**-4)
"""A good batch that no library's own initial scale (up to 65,536) makes overflow float16."""


@dataclass(frozen=True)
class Outcome:
    """Whether it went right, and what was measured."""

    right: bool
    measured: str


@dataclass(frozen=True)
class Scenario:
    """One situation: what is played, what is wanted, and the function that plays it."""

    name: str
    wanted: str
    play: Callable[[Make], Outcome]


def update(trainer: Trainer, batch: np.ndarray) -> float:
    """What a step subtracts from the first weight."""
    before = trainer.weights()[0]
    trainer.step(batch)
    return float(before - trainer.weights()[0])


def growth_changes_no_gradient(make: Make) -> Outcome:
    """Six good steps with a growth at every second one."""
    trainer = make(Options(initial=8.0, growth_every=2))
    updates = [update(trainer, GOOD) for _ in range(6)]
    return Outcome(updates == [1.0] * 6, f"updates {updates}")


def growth_after_exactly_n(make: Make) -> Outcome:
    """Growth interval 4."""
    trainer = make(Options(initial=8.0, growth_every=4))
    for step in range(1, 9):
        trainer.step(GOOD)
        if trainer.scale() != 8.0:
            return Outcome(step == 4, f"grew after {step} good steps")
    return Outcome(False, "did not grow in 8 good steps")


def reported_loss_is_right(make: Make) -> Outcome:
    """The loss that is logged on steps on which the scale grows. The offset makes it 2 at zero weights."""
    trainer = make(Options(initial=8.0, growth_every=1, offset=2.0))
    reported = [trainer.step(rows(0.0)) for _ in range(3)]
    return Outcome(reported == [2.0] * 3, f"logged {reported}")


def floor_is_kept(make: Make) -> Outcome:
    """Floor 16, six bad steps from 64."""
    trainer = make(Options(initial=64.0, floor=16.0))
    for _ in range(6):
        trainer.step(BAD)
    return Outcome(trainer.scale() == 16.0, f"scale {trainer.scale():g}")


def floor_below_one(make: Make) -> Outcome:
    """A gradient of 480,000 fits float16 only at scales below 1/8; the floor is 2**-10."""
    trainer = make(Options(initial=1.0, floor=2.0**-10, gain=16.0))
    updates = [update(trainer, rows(30000.0)) for _ in range(12)]
    moved = next((value for value in updates if value), 0.0)
    close = abs(moved - 480000.0) < 500
    return Outcome(close, f"first update {moved:g}, scale {trainer.scale():g}")


def statistics_stay_on_a_skip(make: Make) -> Outcome:
    """One good step, then one whose inputs are infinite."""
    trainer = make(Options())
    trainer.step(SMALL)
    before = trainer.stats()[0]
    trainer.step(BAD)
    after = trainer.stats()[0]
    return Outcome(bool(before == after), f"running mean {before:g} became {after:g}")


def schedule_stays_on_a_skip(make: Make) -> Outcome:
    """The learning rate halves at each step: good, bad, good."""
    trainer = make(Options(schedule=True))
    update(trainer, SMALL)
    trainer.step(BAD)
    third = update(trainer, SMALL) / float(SMALL[0, 0])
    return Outcome(third == 0.5, f"learning rate after one good and one skipped step {third:g}")


def later_calls_compile_nothing(make: Make) -> Outcome:
    """Programs compiled by the second and third step."""
    trainer = make(Options())
    trainer.step(SMALL)
    counts = [_compiled(trainer, SMALL) for _ in range(2)]
    return Outcome(counts == [0, 0], f"programs compiled by steps 2 and 3: {counts[0]}, {counts[1]}")


def _compiled(trainer: Trainer, batch: np.ndarray) -> int:
    with counting_compiles() as compiles:
        trainer.step(batch)
    return compiles.programs


def static_scales_share_one_program(make: Make) -> Outcome:
    """Static scales 64, 128, 256 put one after the other into the state of one jitted step."""
    trainer = make(Options(static=64.0))
    if trainer.with_scale is None:
        raise NotOfferedError("no program to compile")
    trainer.step(GOOD)
    counts = []
    for scale in (128.0, 256.0):
        trainer.with_scale(scale)
        counts.append(_compiled(trainer, GOOD))
    return Outcome(counts == [0, 0], f"programs compiled for 128 and 256: {counts[0]}, {counts[1]}")


def half_precision_loss(make: Make) -> Outcome:
    """The loss function returns a float16 scalar of 3; the gradient is 0.01. Default initial scale, which may skip a
    step or two.
    """
    trainer = make(Options(half_loss=True, offset=3.0))
    reported, updates = [], []
    for _ in range(5):
        before = trainer.weights()[0]
        reported.append(round(trainer.step(rows(0.01)), 2))
        updates.append(round(float(before - trainer.weights()[0]), 4))
    skipped = sum(value == 0 for value in updates)
    right = skipped <= 2 and all(2.9 < value < 3.1 for value in reported)
    return Outcome(right, f"skipped {skipped} of the first 5 steps; logged losses {reported}")


def clipping_does_not_hide_infinity(make: Make) -> Outcome:
    """Clipping by value at 1, where the documentation puts it, turns an infinite gradient into 1. The step must be
    skipped all the same.
    """
    trainer = make(Options(clip=1.0))
    moved = update(trainer, BAD)
    return Outcome(moved == 0.0, f"update on an infinite gradient {moved:g}")


def bad_steps_never_get_through(make: Make) -> Outcome:
    """Seven bad steps in a row. A library that wants to be told how many to tolerate is told 4."""
    trainer = make(Options(patience=4))
    for _ in range(7):
        trainer.step(BAD)
    weights = trainer.weights()
    return Outcome(bool((weights == 0).all()), f"weights after 7 bad steps {weights.tolist()}")


def dtype_as_text(make: Make) -> Outcome:
    """The compute dtype given as the text "bfloat16": honoured, or refused with an error, but not ignored."""
    try:
        found = make(Options(half="bfloat16", dtype_as_text=True)).compute_dtype()
    except NotOfferedError:
        raise
    except Exception as error:
        return Outcome(True, f"refused: {type(error).__name__}")
    return Outcome(found == "bfloat16", f"computed in {found}")


def state_survives_a_restart(make: Make) -> Outcome:
    """Saved after a bad and two good steps, restored into a fresh trainer: it must go on like a trainer that was never
    saved.
    """
    options = Options(initial=64.0, growth_every=3)
    with contextlib.suppress(NotOfferedError):
        make(replace(options, floor=16.0))
        options = replace(options, floor=16.0)
    straight, saved = make(options), make(options)
    for batch in (BAD, GOOD, GOOD):
        straight.step(batch)
        saved.step(batch)
    with TemporaryDirectory() as directory:
        restored = saved.reload(directory + "/saved")
    traces = [[], []]
    for batch in (GOOD, GOOD, *(BAD,) * 6, GOOD):
        for trainer, trace in zip((straight, restored), traces, strict=True):
            trainer.step(batch)
            trace.append((trainer.scale(), float(trainer.weights()[0])))
    scales = [scale for scale, _ in traces[1]]
    return Outcome(traces[0] == traces[1], f"scales after the restart {scales}")


def exact_at_the_default_scale(make: Make) -> Outcome:
    """A gradient of 3 * 2**-9, which float16 holds exactly, at the library's own initial scale."""
    trainer = make(Options())
    trainer.scale()  # a library without one has nothing to be exact about
    value = 3 * 2.0**-9
    moved = update(trainer, rows(value))
    return Outcome(moved == value, f"update {moved / value:.6f} times what it should be, at scale {trainer.scale():g}")


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Whatever is warned or logged meanwhile."""
    handler = _Heard()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield handler.messages
            handler.messages += [str(warning.message) for warning in caught]
    finally:
        logging.getLogger().removeHandler(handler)


def a_hopeless_run_is_reported(make: Make) -> Outcome:
    """Sixty bad steps in a row, trained the way the library offers: an error, a warning or a count in its state, best
    with the layer's name.
    """
    trainer = make(Options())
    with listening() as heard:
        try:
            trainer.run(60, BAD)
        except FloatingPointError as error:
            heard.append(str(error))
    told = " ".join(heard) or trainer.told()
    names = "names the layer" if "/w" in told or "'w'" in told else "does not name the layer"
    how = "said so" if heard else f"left to its user, with {trainer.told()}"
    return Outcome(bool(told), f"{how}; {names}" if told else "60 steps skipped, no word, no count")


SCENARIOS = (
    Scenario("growth changes no gradient", "every update is 1", growth_changes_no_gradient),
    Scenario("growth after exactly N steps", "the scale grows after 4 good steps", growth_after_exactly_n),
    Scenario("logged loss on a growth step", "2 at each step", reported_loss_is_right),
    Scenario("floor kept under jit", "scale 16", floor_is_kept),
    Scenario("floor below one", "recovers with an update of 480,000", floor_below_one),
    Scenario("batch statistics on a skip", "unchanged", statistics_stay_on_a_skip),
    Scenario("schedule on a skip", "learning rate 0.5", schedule_stays_on_a_skip),
    Scenario("later calls", "compile nothing", later_calls_compile_nothing),
    Scenario("static 64, 128, 256", "compile nothing new", static_scales_share_one_program),
    Scenario("float16 scalar loss", "loss 3 logged, at most 2 steps skipped", half_precision_loss),
    Scenario("clipping before the check", "an infinite gradient is skipped", clipping_does_not_hide_infinity),
    Scenario("bad steps in a row", "weights stay 0", bad_steps_never_get_through),
    Scenario("dtype as text", "bfloat16 honoured or refused", dtype_as_text),
    Scenario("save and restore", "goes on as if never saved", state_survives_a_restart),
    Scenario("exact at the default scale", "the update is exact", exact_at_the_default_scale),
    Scenario("hopeless run", "says so, or at least counts", a_hopeless_run_is_reported),
)
