"""Input-independent baseline: real inputs must do better than blank ones, on data that was not trained on."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.input_independent_baseline.penalty import RELIEF
from jaxrecipe.checks.skeleton.input_independent_baseline.race import Aftermath, Race, run_race
from jaxrecipe.diagnosis.causes.table import Cause, cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.unread_targets import no_baseline
from jaxrecipe.report.result import Curve, Result, skipped
from jaxrecipe.setup import Setup

HARDLY_AHEAD = 2.0
"""Standard errors below which a lead is chance, and above which an insufficient one is only a WARN."""
WIDE = 0.1
"""A lead of this share of the blind loss that standard errors cannot confirm is undecided, not absent."""
FELL_BACK = 1.0
"""Standard errors by which a lead must have shrunk since its best for the run to have fallen back."""
SURE = 4.0
"""Standard errors from which on a training with less of a penalty is measurably better."""
COLLAPSED = 0.1
"""Share of what the inputs are then worth that they may be worth now for the penalty to keep them out."""
SMALL_BATCH = 4
"""With fewer examples a step than this each step undoes what the last one learned, at usual learning rates."""
RISEN = 0.1
"""Share by which the training loss must have risen for the learning rate to be too high."""
HARDLY_MOVED = 0.01
"""Parameters that all steps moved by less than this share of their size were not trained; 1e-3 a step is usual."""


def input_independent_baseline(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 400,
    standard_errors: float = 4.0,
    at_best: float = 3.0,
    margin: float = 0.1,
    held_out: int = 512,
) -> Result:
    """Training on the real inputs beats training on blank inputs, on held-out data.

    What it does: trains twice from the same start, with the same batches and the loop's training step, once with the
    inputs as they are and once with every input set to zero (or with those of other examples, where the model or loss
    cannot take zeros), and compares the two, and the best constant output too, on held-out examples. It stops as soon
    as the real inputs are clearly ahead. If they never are, it says whether at least the training loss went ahead.
    Inputs that were ahead for a while, and sure to be, are a WARN; so are inputs that were not ahead in training
    either, unless it shows why. Where the loss reads no targets, or a constant output is its minimum by design, there
    is nothing to beat.

    Why it matters: a model that does no better with its inputs than without them has not learned anything from them:
    labels that belong to other examples, an input pipeline that blanks or shuffles, an input that is ignored, a
    learning rate that does nothing.

    What to do: look at inputs and labels side by side just before the model, and go through the causes.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: at most this many steps of each training.
        standard_errors: how many standard errors the held-out losses must be apart, pair by pair. There are about ten
            looks at two comparisons: at four standard errors chance passes all of them together less than once in a
            thousand times.
        at_best: standard errors that the real inputs must have been ahead at some comparison for a run that fell back
            to be a WARN. Of ten comparisons of unrelated inputs, were they independent, one in seventy goes so far.
        margin: the least lead, as a share of the blind loss. Shuffled labels agree with the true ones here and there by
            chance, and whole classes of held-out examples share that luck, which standard errors over examples do not
            see. A lead that is sure but smaller is a WARN.
        held_out: at most this many held-out examples.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "input independent baseline".
    """
    if setup.train.size < 2 * setup.batch_size and setup.test is None:
        return skipped(
            "There is no test data and too little training data to hold some back. Give Task(test=(inputs, targets))."
        )
    race = run_race(setup, key, steps=steps, standard_errors=standard_errors, margin=margin, held_out=held_out)
    measures = _measures(race, standard_errors, margin)
    curve = Curve(
        title=f"Held-out loss with real and with {race.blinded} inputs",
        x=np.asarray(race.steps),
        series={"real inputs": np.asarray(race.real), f"{race.blinded} inputs": np.asarray(race.blank)},
        y_label="loss",
    )
    if not race.won and not _shown(race.aftermath) and (reason := _not_applicable(setup, race)):
        return skipped(reason)
    finding = None if race.won else _finding(race, at_best, measures[:2])
    return Result(
        summary=f"After {race.steps[-1]} steps real inputs score {race.real[-1]:.4g} on held-out data, "
        f"{race.blinded} ones {race.blank[-1]:.4g}.",
        findings=() if finding is None else (finding,),
        measures=measures,
        evidence=(curve,),
    )


def _measures(race: Race, standard_errors: float, margin: float) -> tuple[Measure, ...]:
    """What was measured; both leads together decide."""
    return (
        Measure(
            name="lead of the real inputs",
            value=race.lead,
            low=standard_errors,
            fail_low=HARDLY_AHEAD,
            severity=Severity.WARN,
            unit="standard errors",
            thresholds={"low": "standard_errors"},
        ),
        Measure(
            name="lead as a share of the blind loss",
            value=race.relative_lead,
            low=margin,
            severity=Severity.WARN,
            thresholds={"low": "margin"},
        ),
        Measure(name="held-out loss, real inputs", value=race.real[-1]),
        Measure(name=f"held-out loss, {race.blinded} inputs", value=race.blank[-1]),
        Measure(name="held-out loss, constant predictor", value=race.constant),
        Measure(name="steps", value=float(race.steps[-1]), unit="steps"),
    )


def _finding(race: Race, at_best: float, measures: tuple[Measure, ...]) -> Finding:
    """What is wrong where the real inputs did not win."""
    steps = race.steps[-1]
    if not np.isfinite(race.real[-1]):
        message = f"After {steps} steps on the real inputs the held-out loss is {race.real[-1]}."
        return failure("optimizer/diverged", message, measures=measures)
    if race.best_lead > at_best and race.lead < race.best_lead - FELL_BACK:
        message = (
            f"Real inputs were ahead by {race.best_lead:.2g} standard errors after {race.best_step} steps, and by "
            f"{race.lead:.2g} after {steps}: the model found what is in them and then memorized its training examples."
        )
        ranked = causes("data/weak-signal", "data/label-noise")
        return warning("data/weak-signal", message, measures=measures, causes=ranked)
    scores = f"After {steps} steps real inputs score {race.real[-1]:.4g} on held-out data, what does not see them "
    scores += f"{race.best_blind:.4g}"
    ranked = _ranked_causes(race)
    kept_out = _penalty(race)
    if not kept_out and (race.lead > HARDLY_AHEAD or race.relative_lead > WIDE):
        message = f"{scores}: they help by {race.lead:.2g} standard errors and {race.relative_lead:.2g} of the loss."
        return warning("data/inputs-do-not-help", message, measures=measures, causes=ranked)
    proven = _shown(race.aftermath) or kept_out or race.aftermath is None or race.training_lead > HARDLY_AHEAD
    make = failure if proven else warning
    message = f"{scores}: the inputs do not help."
    return make("data/inputs-do-not-help", message, measures=measures, causes=ranked)


def _not_applicable(setup: Setup, race: Race) -> str:
    """Why a race that was not won says nothing; empty where it does."""
    if np.isfinite(race.real[-1]) and not np.isfinite(race.best_blind):
        return "Neither blank nor shuffled inputs nor a constant output have a finite loss to compare with."
    return no_baseline(setup)


def _ranked_causes(race: Race) -> tuple[Cause, ...]:
    """What may be behind inputs that do not help: what the trained model shows for certain comes first."""
    return _shown(race.aftermath) or _penalty(race) or _likely(race)


def _penalty(race: Race) -> tuple[Cause, ...]:
    """A term that has nothing to do with the targets keeps the inputs out, where less of it lets them in."""
    relief = race.relief
    if relief is None or relief.sure < SURE or relief.before > COLLAPSED * relief.after:
        return ()
    here = (
        f"With {RELIEF:g} of the pull on {', '.join(relief.outputs)}, which the targets have no part in, an example's "
        f"own outputs are worth {relief.after:.3g} more than another's on held-out data; as it is {relief.before:.3g}."
    )
    return (cause("loss/penalty-outweighs-targets", here=here), *causes("model/input-ignored"))


def _shown(seen: Aftermath | None) -> tuple[Cause, ...]:
    """What training did to the model gives away; nothing where it trained."""
    if seen is None:
        return ()
    before, after = seen.losses
    if not seen.inputs_differ:
        return (cause("data/constant-inputs", here="All inputs of the first batch are the same."),)
    if seen.gradient == 0:
        return causes("model/no-gradient", "loss/flat", "loss/single-output-softmax")
    if not any(seen.outputs_differ):
        here = "All examples of the first batch get the same output, before and after training."
        first = "model/dead-units" if seen.opens else "model/input-ignored"
        return (cause(first, here=here), *causes("model/constant-outputs", "model/saturating-activation"))
    if seen.moved == 0:
        return causes("step/updates-thrown-away", "optimizer/unintended-freeze")
    if not after <= before * (1 + RISEN) or not seen.outputs_differ[1]:
        here = f"The training loss went from {before:.4g} to {after:.4g}."
        others = causes("loss/sign-flipped", "step/goes-uphill", "data/labels-shuffled")
        return (cause("optimizer/learning-rate-too-high", here=here), *others)
    if seen.moved < HARDLY_MOVED:
        here = f"The parameters have moved by {seen.moved:.1e} of their size."
        return (cause("optimizer/learning-rate-too-low", here=here), *causes("optimizer/clipping-too-tight"))
    return ()


def _likely(race: Race) -> tuple[Cause, ...]:
    """What to think of where the model trained."""
    if race.batch_size < SMALL_BATCH:
        here = f"A batch holds {race.batch_size} of them."
        return (cause("optimizer/batch-too-small", here=here), *causes("optimizer/learning-rate-too-high"))
    if race.training_lead > HARDLY_AHEAD:
        here = f"On training examples the real inputs are ahead by {race.training_lead:.2g} standard errors."
        others = causes(
            "data/misaligned-targets",
            "data/split-labels-mapped-differently",
            "data/split-scaled-differently",
            "data/weak-signal",
        )
        return (cause("data/labels-shuffled", here=here), *others)
    return causes(
        "data/labels-shuffled",
        "model/input-ignored",
        "optimizer/learning-rate-too-high",
        "optimizer/learning-rate-too-low",
        "model/saturating-activation",
    )
