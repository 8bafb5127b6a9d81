"""Mode consistency: what is meant for training only is off at evaluation, and what training collects is kept."""

from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.mode_consistency.modes import Modes, look_at_modes
from jaxrecipe.checks.skeleton.mode_consistency.prediction import prediction_findings
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.averaged_draws import averages_draws
from jaxrecipe.probes.randomness import Origin
from jaxrecipe.probes.rounding import ROUNDINGS, model_rounding
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup

NAMED = 3
"""Leaves of the model state that a message names."""


def mode_consistency(
    setup: Setup, *, key: PRNGKeyArray, tolerance: float = 1e-4, predict_tolerance: float = 1e-3
) -> Result:
    """Evaluation is deterministic and changes nothing; training keeps its running statistics.

    What it does: runs the model in evaluation mode with two keys (the outputs must be equal, unless the model draws by
    design: noise scaled by what it computes, fed to a layer or told to the loss, an average of several draws; where
    that cannot be told from what was left on, it is a WARN) and compares the model
    state before and after (it must be untouched), then takes a training step and looks whether a model state that a
    forward pass in training moves (the running statistics of a BatchNorm) has moved in the state that the step returns.
    Where you give a `predict`, it must agree with the model in evaluation mode at the start, and must not use
    parameters or statistics of before a step after it; an average of the parameters of all steps is fine.

    It also looks for outputs that are zero at random places in training and are not at evaluation: dropout behind the
    last layer.

    Why it matters: dropout that stays on at evaluation, running statistics that are thrown away or moved by test data
    cost accuracy and never raise an error.

    What to do: pass `train=False` (`deterministic=True`, `use_running_average=True`) at evaluation; put the model state
    that the forward pass returns into the next state.

    Args:
        setup: the set-up.
        key: seeds dropout.
        tolerance: how far two evaluations may differ, relative to the size of the outputs.
        predict_tolerance: how far predict may be from the model, relative to the size of the outputs; a few roundings
            of the coarsest format that the model computes in, if that is more.

    Source: Karpathy, the most common neural net mistakes (2018): forgetting to toggle train and eval mode.
    """
    modes = look_at_modes(setup, key)
    measures = _measures(modes, tolerance)
    findings = [_finding(modes, measure, tolerance) for measure in measures if measure.verdict is not None]
    if setup.task.loop is not None and setup.task.loop.predict is not None:  # the library's is the model itself
        within = max(predict_tolerance, ROUNDINGS * model_rounding(setup))
        measure, more = prediction_findings(setup, modes, predict_tolerance, within)
        measures, findings = (*measures, measure), [*findings, *more]
    return Result(
        summary=_summary(setup, modes),
        findings=tuple(findings),
        measures=measures,
        evidence=(_table(setup, modes),),
    )


def _summary(setup: Setup, modes: Modes) -> str:
    """What evaluation does; this is where a report says that a set-up is random at evaluation by design."""
    moved = len(modes.moved_by_training)
    also = f"; training keeps {moved} running statistics." if moved else "."
    if modes.drawn.origin is Origin.DESIGN:
        how = f"Evaluation is random by design ({modes.drawn.how}): two draws differ by {modes.drawn.by_key:.2g}"
        return f"{how} of their size. It leaves the model state alone{also}"
    if averages_draws(setup, setup.fresh_state(), setup.batch[0]):
        return f"predict averages several draws of the model in training mode; evaluation leaves the model state{also}"
    return f"Evaluation is deterministic and leaves the model state alone{also}"


def _measures(modes: Modes, tolerance: float) -> tuple[Measure, ...]:
    """What must be small, and what must not occur, each with the code of what it means."""
    unclear = modes.drawn.origin is Origin.UNKNOWN
    return (
        Measure(
            name="difference of two evaluations",
            value=modes.randomness_at_evaluation,
            high=None if modes.drawn.origin is Origin.DESIGN else tolerance,
            severity=Severity.WARN if unclear else Severity.FAIL,
            code="evaluation/random" if unclear else "evaluation/training-mode",
            thresholds={"high": "tolerance"},
        ),
        Measure(
            name="leaves of model state moved by evaluation",
            value=len(modes.moved_by_evaluation),
            low=0.0,
            high=0.0,
            code="evaluation/state-changed",
        ),
        Measure(
            name="leaves of model state moved by training and not kept",
            value=len(modes.lost(tolerance)),
            low=0.0,
            high=0.0,
            code="step/statistics-thrown-away",
        ),
        Measure(
            name="share of outputs dropped in training",
            value=modes.dropped,
            low=0.0,
            high=0.0,
            code="model/dropout-on-outputs",
        ),
    )


def _finding(modes: Modes, measure: Measure, tolerance: float) -> Finding:
    """What a measure outside of its bounds means."""
    found = causes(measure.code)
    match measure.code:
        case "evaluation/random":
            text = (
                f"Two evaluations of the same batch with different keys differ by {measure.value:.2g} of their size: "
                "the model draws in evaluation mode, by design or because it was left on."
            )
            found = causes("evaluation/random", "evaluation/training-mode")
            return warning(found[0].code, text, measures=(measure,), causes=found)
        case "evaluation/training-mode":
            text = f"Two evaluations of the same batch with different keys differ by {measure.value:.2g} of their size."
            found = causes("evaluation/training-mode", "evaluation/random")
        case "evaluation/state-changed":
            text = f"Evaluation changes the model state ({_listed(modes.moved_by_evaluation)})."
            if modes.difference <= tolerance:
                here = "The model gives the same outputs in training and in evaluation mode."
                found = (cause("model/batch-statistics-at-eval", here=here), *found)
        case "step/statistics-thrown-away":
            text = f"The training step does not keep the running statistics ({_listed(modes.lost(tolerance))})."
        case _:
            text = f"In training {measure.value:.0%} of the outputs are zero, at places that change by chance."
    return failure(found[0].code, text, measures=(measure,), causes=found)


def _table(setup: Setup, modes: Modes) -> Table:
    """What moves each leaf of the model state."""
    by = (modes.moved_by_training, modes.kept, modes.moved_by_evaluation)
    rows = [(path, *(path in moved for moved in by)) for path in trees.paths(setup.model_state)]
    columns = ("leaf", "moved by training", "kept by the step", "moved by evaluation")
    return Table(title="Model state", columns=columns, rows=rows)


def _listed(paths: tuple[str, ...]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")
