"""Why a run did not memorize a few examples: hypotheses that its own numbers support, ranked by how sure they are."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from jaxrecipe.checks.skeleton.overfit_one_batch import in_model, in_optimizer, proven
from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.diagnosis.causes.table import Cause

MOST_CAUSES = 5
HALF = 0.5
"""Share of the gap below which a run in training mode is nowhere near, so that the model's noise may be why."""


class Hypothesis(NamedTuple):
    """A possible explanation.

    Attributes:
        explains: the cause, with what points to it in this run; None where the run does not.
        side: "certain" where an equality proves it; else whether it blames the "optimizer" (learned by plain Adam) or
            the "model" (not learned by plain Adam either), or is what is "left" to say.
        witness: whether an equality or an experiment that does better proves it: makes a run a failure.
    """

    explains: Callable[[Evidence], Cause | None]
    side: Literal["certain", "optimizer", "model", "left"]
    witness: Callable[[Evidence], bool]


class Explanation(NamedTuple):
    """The likeliest causes, the most certain first; whether the first is proven, and by an equality."""

    causes: tuple[Cause, ...]
    proven: bool
    certain: bool


def _itself(_: Evidence) -> bool:
    """What is asked is an equality, or whether another learning rate does better."""
    return True


def _nothing(_: Evidence) -> bool:
    return False


def _adam(evidence: Evidence) -> bool:
    return evidence.trials.adam_is_better


def _no_start_helps(evidence: Evidence) -> bool:
    return not evidence.trials.memorizes_elsewhere


def _larger_kernels(evidence: Evidence) -> bool:
    return evidence.trials.larger_kernels is not None and _no_start_helps(evidence)


def _evaluation_mode(evidence: Evidence) -> bool:
    return evidence.run.closed_in_training < HALF and evidence.trials.quiet_adam_learns and _no_start_helps(evidence)


HYPOTHESES: tuple[Hypothesis, ...] = (
    Hypothesis(proven.probabilities_as_logits, "certain", _itself),
    Hypothesis(proven.logits_for_probabilities, "certain", _itself),
    Hypothesis(proven.class_number_as_quantity, "certain", _itself),
    Hypothesis(proven.every_step_skipped, "certain", _itself),
    Hypothesis(proven.nothing_moves, "certain", _itself),
    Hypothesis(proven.zero_kernels, "certain", _itself),
    Hypothesis(proven.identical_units, "certain", _itself),
    Hypothesis(proven.cut_off_outputs, "certain", _itself),
    Hypothesis(proven.single_output_softmax, "certain", _itself),
    Hypothesis(proven.clipped_loss, "certain", _itself),
    Hypothesis(proven.flat_loss, "certain", _itself),
    Hypothesis(proven.same_inputs, "certain", _itself),
    Hypothesis(proven.no_gradient, "certain", _itself),
    Hypothesis(proven.uphill, "certain", _itself),
    Hypothesis(proven.sign_flipped, "certain", _itself),
    Hypothesis(in_optimizer.one_at_a_time, "optimizer", _adam),
    Hypothesis(in_optimizer.steps_too_large, "optimizer", _itself),
    Hypothesis(in_optimizer.schedule_run_down, "optimizer", _adam),
    Hypothesis(in_optimizer.units_killed, "optimizer", _itself),
    Hypothesis(in_optimizer.warm_up_too_long, "optimizer", _adam),
    Hypothesis(in_optimizer.clipped_steps, "optimizer", _adam),
    Hypothesis(in_optimizer.steps_too_small, "optimizer", _itself),
    Hypothesis(in_optimizer.decay_swamps, "optimizer", _adam),
    Hypothesis(in_model.dead_units, "model", _no_start_helps),
    Hypothesis(in_model.input_ignored, "model", _no_start_helps),
    Hypothesis(in_model.same_outputs, "model", _no_start_helps),
    Hypothesis(in_model.dropout_too_strong, "model", _evaluation_mode),
    Hypothesis(in_model.saturating_activation, "model", _larger_kernels),
    Hypothesis(in_model.signal_fades, "model", _larger_kernels),
    Hypothesis(in_model.outputs_confined, "model", in_model.out_of_reach),
    Hypothesis(in_optimizer.optimizer_at_fault, "left", _adam),
    Hypothesis(in_optimizer.regularized, "left", _nothing),
    Hypothesis(in_model.not_expressive, "left", _nothing),
)
"""Within a side the more specific first. One of the last three always holds."""


def explain(evidence: Evidence) -> Explanation:
    """Ask every hypothesis.

    What is proven by an equality comes first. Then an experiment decides: if plain Adam memorizes the same examples
    with the same model and loss, what blames the optimizer comes before what blames the model, otherwise after. The
    first that has a witness comes before those that have none.
    """
    found = [(one, why) for one in HYPOTHESES if (why := one.explains(evidence)) is not None]
    sides = ("optimizer", "model") if evidence.trials.adam_learns else ("model", "optimizer")
    order = ("certain", *sides, "left")
    ranked = sorted(found, key=lambda pair: order.index(pair[0].side))
    proven_first = [next((pair for pair in ranked if pair[0].witness(evidence)), None)]
    proven_first = [pair for pair in proven_first if pair is not None]
    ranked = [*proven_first, *(pair for pair in ranked if pair not in proven_first)]
    by_code = {why.code: why for _, why in reversed(ranked)}
    codes = dict.fromkeys(why.code for _, why in ranked)
    first = ranked[0][0]
    return Explanation(
        tuple(by_code[code] for code in codes)[:MOST_CAUSES], bool(proven_first), first.side == "certain"
    )
