"""Why a run did not memorize a few examples: hypotheses that its own numbers support, ranked by how sure they are."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from jaxrecipe.checks.skeleton.overfit_one_batch import in_model, in_optimizer, proven
from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.diagnosis.causes.table import Cause

MOST_CAUSES = 5


class Hypothesis(NamedTuple):
    """A possible explanation.

    Attributes:
        explains: the cause, with what points to it in this run; None where the run does not.
        side: "certain" where an equality proves it; else whether it blames the "optimizer" (learned by plain Adam) or
            the "model" (not learned by plain Adam either), or is what is "left" to say.
        conclusive: whether it makes a run that is nearly there a failure.
    """

    explains: Callable[[Evidence], Cause | None]
    side: Literal["certain", "optimizer", "model", "left"]
    conclusive: bool = True


class Explanation(NamedTuple):
    """The likeliest causes, the most certain first; and whether the first is conclusive."""

    causes: tuple[Cause, ...]
    conclusive: bool


HYPOTHESES: tuple[Hypothesis, ...] = (
    Hypothesis(proven.probabilities_as_logits, "certain"),
    Hypothesis(proven.logits_for_probabilities, "certain"),
    Hypothesis(proven.class_number_as_quantity, "certain"),
    Hypothesis(proven.every_step_skipped, "certain"),
    Hypothesis(proven.nothing_moves, "certain"),
    Hypothesis(proven.zero_kernels, "certain"),
    Hypothesis(proven.identical_units, "certain"),
    Hypothesis(proven.cut_off_outputs, "certain"),
    Hypothesis(proven.single_output_softmax, "certain"),
    Hypothesis(proven.clipped_loss, "certain"),
    Hypothesis(proven.flat_loss, "certain"),
    Hypothesis(proven.same_inputs, "certain"),
    Hypothesis(proven.no_gradient, "certain"),
    Hypothesis(proven.uphill, "certain"),
    Hypothesis(proven.sign_flipped, "certain"),
    Hypothesis(in_optimizer.one_at_a_time, "optimizer"),
    Hypothesis(in_optimizer.steps_too_large, "optimizer"),
    Hypothesis(in_optimizer.schedule_run_down, "optimizer"),
    Hypothesis(in_optimizer.units_killed, "optimizer"),
    Hypothesis(in_optimizer.warm_up_too_long, "optimizer"),
    Hypothesis(in_optimizer.clipped_steps, "optimizer"),
    Hypothesis(in_optimizer.steps_too_small, "optimizer"),
    Hypothesis(in_optimizer.decay_swamps, "optimizer"),
    Hypothesis(in_model.dead_units, "model"),
    Hypothesis(in_model.input_ignored, "model"),
    Hypothesis(in_model.same_outputs, "model"),
    Hypothesis(in_model.dropout_too_strong, "model"),
    Hypothesis(in_model.saturating_activation, "model"),
    Hypothesis(in_model.signal_fades, "model"),
    Hypothesis(in_model.outputs_confined, "model", conclusive=False),
    Hypothesis(in_optimizer.optimizer_at_fault, "left", conclusive=False),
    Hypothesis(in_optimizer.regularized, "left"),
    Hypothesis(in_model.not_expressive, "left", conclusive=False),
)
"""Within a side the more specific first. One of the last three always holds."""


def explain(evidence: Evidence) -> Explanation:
    """Ask every hypothesis.

    What is proven by an equality comes first. Then an experiment decides: if plain Adam memorizes the same examples
    with the same model and loss, what blames the optimizer comes before what blames the model, otherwise after.
    """
    found = [(one, why) for one in HYPOTHESES if (why := one.explains(evidence)) is not None]
    sides = ("optimizer", "model") if evidence.adam_learns else ("model", "optimizer")
    order = ("certain", *sides, "left")
    ranked = sorted(found, key=lambda pair: order.index(pair[0].side))
    by_code = {why.code: why for _, why in reversed(ranked)}
    codes = dict.fromkeys(why.code for _, why in ranked)
    return Explanation(tuple(by_code[code] for code in codes)[:MOST_CAUSES], ranked[0][0].conclusive)
