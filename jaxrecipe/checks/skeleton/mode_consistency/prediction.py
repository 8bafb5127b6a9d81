"""The user's own predict against the model in evaluation mode: at the start, and after a step."""

from collections.abc import Callable
from typing import Any

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.mode_consistency.modes import Modes
from jaxrecipe.diagnosis.causes.table import Cause, cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.averaged_draws import averages_draws
from jaxrecipe.probes.first_steps import lightly_trained
from jaxrecipe.probes.randomness import relative_distance
from jaxrecipe.probes.schedule_free import schedule_free_weights
from jaxrecipe.setup import Setup

Predict = Callable[[Any, Any], Any]
NAME = "difference of predict and model"
UNAVERAGED = "difference of predict and the schedule-free average"
APART = 2.0
"""Two draws of a model may be apart by so many times what two others are."""


def prediction_findings(
    setup: Setup, modes: Modes, threshold: float, tolerance: float
) -> tuple[Measure, list[Finding]]:
    """How far predict is from the model in evaluation mode at the start, and what is wrong with it.

    At the start, because afterwards it may rightly use other parameters, such as an average of those of all steps;
    after a step it must not be what the model was with parameters or statistics of before.
    """
    predict = setup.loop.predict
    if predict is None:
        raise ValueError("the loop has no predict: ask for setup.loop.predict first")
    inputs = setup.batch[0]
    at_start = predict(setup.fresh_state(), inputs)
    if averages_draws(setup, setup.fresh_state(), inputs):
        return Measure(name=NAME, value=relative_distance(modes.evaluated[0], at_start)), []
    if modes.drawn.accepted:  # two draws of the model lie as far apart
        tolerance = max(tolerance, APART * modes.drawn.by_key)
    measure = Measure(
        name=NAME,
        value=relative_distance(modes.evaluated[0], at_start),
        high=tolerance,
        code="evaluation/other-predictions",
        thresholds={"high": "predict_tolerance"} if tolerance == threshold else {},
    )
    if measure.verdict is not None:
        text = f"predict differs from the model in evaluation mode by {measure.value:.2g} of its size."
        found = _other_predictions(setup, modes, predict, at_start, tolerance)
        return measure, [failure(found[0].code, text, measures=(measure,), causes=found)]
    stale = "" if modes.drawn.accepted else _out_of_date(setup, modes, predict, tolerance)
    if stale:
        text = f"After a training step predict still gives what the model gave with {stale} of before."
        return measure, [failure("evaluation/stale-parameters", text)]
    return measure, [] if modes.drawn.accepted else not_averaged(setup, tolerance)


def not_averaged(setup: Setup, tolerance: float) -> list[Finding]:
    """Predictions by the weights that a schedule-free optimizer trains, or by the fast ones, not by their average."""
    predict, inputs = setup.loop.predict, setup.batch[0]
    state = lightly_trained(setup, setup.key)
    weights = schedule_free_weights(setup, state)
    if not weights or predict is None:
        return []
    model_state = setup.loop.variables(state)[1]
    given = predict(trees.copy(state), inputs)

    def distance(params: Any) -> float:
        return relative_distance(setup.forward(params, model_state, inputs, train=False, key=setup.key)[0], given)

    away = min(distance(one.averaged) for one in weights)
    path, near = min(((one.path, distance(one.held)) for one in weights), key=lambda pair: pair[1])
    measure = Measure(name=UNAVERAGED, value=away, high=tolerance, code="evaluation/schedule-free-weights")
    if near > tolerance or measure.verdict is None:
        return []
    text = (
        f"The optimizer is schedule-free, and predict gives what the model gives with the weights at {path} of the "
        f"state; with what schedule_free_eval_params makes of them the outputs differ by {away:.2g} of their size."
    )
    return [failure(measure.code, text, measures=(measure,))]


def _other_predictions(
    setup: Setup, modes: Modes, predict: Predict, at_start: Any, tolerance: float
) -> tuple[Cause, ...]:
    """Why predict may differ: it is the model in training mode, by its batch statistics or by its randomness; or it is
    not known.
    """
    again = predict(setup.fresh_state(), setup.batch[0])
    by_statistics = relative_distance(modes.trained[0], at_start) <= tolerance
    random_as_training = modes.randomness_in_training > tolerance and _as_far_as_training(modes, at_start)
    if by_statistics or random_as_training or relative_distance(at_start, again) > tolerance:
        here = (
            "It gives what the model gives in training mode."
            if by_statistics
            else "It is as far off as training mode is."
        )
        return cause("evaluation/training-mode", here=here), *causes("evaluation/other-predictions")
    return causes("evaluation/other-predictions", "evaluation/stale-parameters", "evaluation/training-mode")


def _as_far_as_training(modes: Modes, outputs: Any) -> bool:
    """Whether outputs are about as far from evaluation mode as training mode is: within a factor of two."""
    far, own = modes.difference, relative_distance(modes.evaluated[0], outputs)
    return far / 2 < own < 2 * far


def _out_of_date(setup: Setup, modes: Modes, predict: Predict, tolerance: float) -> str:
    """What predict uses that is of before the step; empty where it uses nothing such."""
    inputs = setup.batch[0]
    params, state = setup.loop.variables(modes.stepped)
    after = predict(trees.copy(modes.stepped), inputs)

    def distance(params: Any, state: Any) -> float:
        return relative_distance(setup.forward(params, state, inputs, train=False, key=setup.key)[0], after)

    if distance(params, state) <= tolerance:
        return ""
    before = {
        "the parameters and the model state": distance(*setup.variables),
        "the parameters": distance(setup.params, state),
        "the model state": distance(params, setup.model_state),
    }
    nearest = min(before, key=lambda what: before[what])
    return nearest if before[nearest] <= tolerance / SURER else ""


SURER = 100.0
"""How much nearer than the tolerance predict must be to the model of before: an average of the parameters starts near
there."""
