"""What is wrong with an evaluation, from its answers."""

import math
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.exact_eval.answers import LARGE_BYTES, Answers, Values, one_example, scale_of
from jaxrecipe.checks.skeleton.exact_eval.mistakes import cause_of, evaluates_an_average, near, sums_in_half
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.averaged_draws import averages_draws
from jaxrecipe.probes.exact_scores import causes_of_randomness, scores
from jaxrecipe.probes.mixing_causes import (
    loss_mixes_examples,
    loss_mixing_causes,
    model_mixes_examples,
    model_mixing_causes,
)
from jaxrecipe.probes.randomness import Origin, evaluation_randomness
from jaxrecipe.probes.sampled_scores import Kind, Sampled, kind_of, sampled_scores
from jaxrecipe.setup import Split

REPEATED = 0.1
"""Asked again, numbers may differ by this share of what they may be off."""
TWO_DRAWS = 2.0
"""... where the model draws by design, by so many times what one draw may be off."""
SAME_MEAN = 1e-6
"""Two sets of examples whose exact means differ by less cannot be told apart."""
UNKNOWN_TOLERANCE = 0.01
"""Numbers that the task does not know may differ by at least so much of themselves."""
PER_CENT = 100.0


def findings_of(answers: Answers) -> list[Finding]:
    """Everything that is wrong. An evaluation that is random, or does not look at what it is given, is only that."""
    alone = [*_random(answers)] or [*_same_whatever_is_given(answers)]
    if alone:
        return alone[:1]
    wrong = [*_wrong_means(answers)]
    return [
        *wrong,
        *_refused(answers),
        *_unknown_names_vary(answers),
        *([] if wrong or averages(answers) else _wrong_when_large(answers)),
    ]


def differences(answers: Answers) -> dict[str, Measure]:
    """By name, how far the numbers are from the exact mean at most, in mean and spread of the examples."""
    found = {}
    for name, known in answers.known.items():
        values = answers.each[known]
        numbers = [call.value(name) for call in answers.calls if call.values is not None]
        factor = _factor(numbers, values, answers.slack(values))
        off = max((abs(number / factor - values.mean()) for number in numbers), default=0.0)
        found[name] = Measure(
            name=f"{name}, difference from the mean of the examples",
            value=float(max(off - one_example(values), 0.0) / max(scale_of(values), 1e-300)),
            high=answers.tolerance,
            unit="of mean and spread",
            thresholds={"high": answers.threshold} if answers.threshold else {},
        )
    return found


def _random(answers: Answers) -> Iterator[Finding]:
    for name, known in answers.known.items():
        first, again = (said.get(name, math.nan) for said in (answers.first, answers.again))
        share = TWO_DRAWS if answers.random_by_design else REPEATED
        slack = answers.slack(answers.each[known])
        apart = Measure(name=f"{name} asked for again", value=abs(first - again), high=share * slack)
        if apart.value > (apart.high or 0.0) and not averages(answers):
            sampled, random = _sampled(answers, name, slack)
            if random in ("unbiased", "averaged"):
                yield _only_random(name, sampled, apart)
                return
            text = f"The same state on the same examples scores {name} {first:.4g} once and {again:.4g} the next time."
            likely = causes_of_randomness(answers.setup, answers.key)
            yield failure(likely[0].code, text, measures=(apart,), causes=likely)


def averages(answers: Answers) -> bool:
    """Whether the loop's predictions average draws of the model, so that its evaluation does."""
    return averages_draws(answers.setup, answers.setup.fresh_state(), answers.setup.batch[0])


def _sampled(answers: Answers, name: str, slack: float) -> tuple[Sampled, Kind]:
    """The evaluation asked for one number again and again, and what its spread is like."""
    given = (answers.setup, answers.evaluate, answers.state, answers.split, answers.indices, name)
    sampled = answers.setup.memo((sampled_scores, name), lambda: sampled_scores(*given))
    sorted_orders = tuple(call.value(name) for call in (answers.calls[0], answers.calls[-1]))
    return sampled, kind_of(sampled, slack, sorted_orders)


def _only_random(name: str, sampled: Sampled, measure: Measure) -> Finding:
    """An evaluation that varies about the right number, or as an average of draws does: nothing proves a mistake."""
    text = (
        f"evaluate gives {name} {sampled.in_words} of the same examples, where the mean over them is "
        f"{sampled.exact:.4g}: it draws, by design (a random part of the examples, an average of several draws) or not."
    )
    return warning("evaluation/random", text, measures=(measure,))


def _same_whatever_is_given(answers: Answers) -> Iterator[Finding]:
    """Other examples give the very same numbers: the evaluation has data of its own."""
    if answers.others is None or not answers.known:
        return
    each, said = answers.others
    differ = {
        name
        for name, known in answers.known.items()
        if abs(each[known].mean() - answers.each[known].mean()) > SAME_MEAN
    }
    if not differ or any(answers.first.get(name) != said.get(name) or name not in said for name in differ):
        return
    name = min(differ, key=lambda one: one != "loss")
    number = answers.first[name]
    text = f"evaluate gives {name} {number:.4g} whatever examples it is given"
    measure = Measure(name=f"{name} of any examples", value=number)
    match _split_that_scores(answers, name, number):
        case "train":
            message = f"{text}: that is the {name} of the training split."
            yield failure("evaluation/training-split", message, measures=(measure,))
        case "test":
            message = f"{text}: that is the {name} of the test split."
            yield warning("evaluation/ignores-given-examples", message, measures=(measure,))
        case _:
            message = f"{text}, and neither split scores that."
            found = causes("evaluation/ignores-given-examples", "evaluation/stale-parameters")
            yield failure("evaluation/ignores-given-examples", message, measures=(measure,), causes=found)


def _split_that_scores(answers: Answers, name: str, number: float) -> Split | None:
    """The split whose examples have this mean."""
    setup = answers.setup
    splits: tuple[Split, Split] = ("train", "test")
    for split, source in zip(splits, (setup.train, setup.test), strict=True):
        if source is None:
            continue
        most = LARGE_BYTES // max(trees.nbytes(source.gather(np.zeros(1, int))), 1)
        values = scores(setup, answers.variables, split, np.arange(source.size)[:most])[answers.known[name]]
        if near(number, float(values.mean()), answers.slack(values)):
            return split
    return None


def _wrong_means(answers: Answers) -> Iterator[Finding]:
    """Numbers that are not the mean over the examples, each mistake that explains them once."""
    measures = differences(answers)
    seen: set[str] = set()
    for name, known in sorted(answers.known.items(), key=lambda pair: pair[1] != "loss"):
        values = answers.each[known]
        finding = _wrong_mean(answers, name, values, measures[name])
        if finding is not None and finding.code not in seen:
            seen.add(finding.code)
            yield finding


def _wrong_mean(answers: Answers, name: str, values: Values, measure: Measure) -> Finding | None:
    slack, exact = answers.slack(values), float(values.mean())
    said = [(call, call.value(name)) for call in answers.calls if call.values is not None]
    numbers = [number for _, number in said]
    factor = _factor(numbers, values, slack)
    wrong = [(call, number) for call, number in said if not near(number, exact * factor, slack * factor)]
    if not wrong:
        return None
    if evaluates_an_average(answers, name, slack) or averages(answers):
        return None
    if not answers.own:
        return _wrong_in_model(answers, name, numbers, measure)
    shown = "; ".join(dict.fromkeys(f"{number:.4g} at batch size {call.batch_size}" for call, number in wrong))
    text = f"evaluate gives {name} {shown}, where the mean over the {len(values)} examples is {exact:.4g}."
    code = cause_of(answers, name, values, slack)
    likely = causes(*_why_the_batch_matters(answers))
    if (code is None or code == "evaluation/training-mode") and likely[0].code == "evaluation/not-exact":
        sampled, random = _sampled(answers, name, slack)
        if sampled.said.std() > slack / 2 and random in ("unbiased", "averaged"):
            return _only_random(name, sampled, measure)
        code = "evaluation/training-mode" if random == "left on" and not answers.setup.task.augment else code
    if code is not None:
        return failure(code, text, measures=(measure,))
    if max(numbers) - min(numbers) > 2 * slack or not all(map(math.isfinite, numbers)):
        text += f" The same examples score from {min(numbers):.4g} to {max(numbers):.4g} by batch size and order."
        return failure(likely[0].code, text, measures=(measure,), causes=likely)
    text += " It is the same at every batch size and order."
    return warning("evaluation/other-definition", text, measures=(measure,))


def _wrong_in_model(answers: Answers, name: str, numbers: list[float], measure: Measure) -> Finding:
    """The library's evaluation is exact, so that what depends on batch size or order is the model or the loss."""
    text = (
        f"The {name} of the same {len(answers.indices)} examples is {min(numbers):.4g} to {max(numbers):.4g} by batch "
        "size and order: what an example scores depends on its batch or its place in it."
    )
    setup, key = answers.setup, answers.key
    if evaluation_randomness(setup).origin is Origin.LEFT_ON:
        found = causes("evaluation/training-mode", "evaluation/random")
    elif model_mixes_examples(setup, key):
        found = model_mixing_causes(setup, key)
    elif loss_mixes_examples(setup, key):
        found = loss_mixing_causes(setup, key)
    else:
        found = causes("model/depends-on-place", "model/mixes-examples")
    if found[0].code == "loss/weighted-by-batch":  # nothing shows that this mean is not meant
        measure = replace(measure, severity=Severity.WARN, code=found[0].code)
        return warning(found[0].code, text, measures=(measure,), causes=found)
    return failure(found[0].code, text, measures=(measure,), causes=found)


def _why_the_batch_matters(answers: Answers) -> tuple[str, ...]:
    """What makes an example's score depend on its batch: the model in evaluation mode itself, or the evaluation."""
    forwards, backwards = (
        scores(answers.setup, answers.variables, answers.split, answers.indices[:: 1 if ahead else -1])["loss"]
        for ahead in (True, False)
    )
    values = answers.each["loss"]
    if np.abs(forwards - backwards[::-1]).max() <= answers.tolerance * scale_of(values):
        return ("evaluation/not-exact", "evaluation/training-mode")
    if jax.tree.leaves(answers.variables[1]):
        return ("model/batch-statistics-at-eval", "evaluation/training-mode", "evaluation/not-exact")
    return ("evaluation/training-mode", "evaluation/random", "evaluation/not-exact")


def _factor(numbers: list[float], values: Values, slack: float) -> float:
    """100 when every number is the percentage of what is expected, which is no mistake; else 1."""
    exact = float(values.mean())
    per_cent = exact and all(near(number, PER_CENT * exact, PER_CENT * slack) for number in numbers)
    return PER_CENT if per_cent else 1.0


def _refused(answers: Answers) -> Iterator[Finding]:
    refused = [call for call in answers.calls if call.values is None]
    if refused:
        call = refused[0]
        size = len(answers.indices)
        text = f"evaluate does not take {size} examples at batch size {call.batch_size}: {call.error}"
        yield warning("evaluation/refuses-batch-size", text)


def _unknown_names_vary(answers: Answers) -> Iterator[Finding]:
    """Numbers that the task does not know must stay the same, unless they differ when asked again (times)."""
    for name, value in answers.first.items():
        if name in answers.known or answers.again.get(name) != value:
            continue
        others = [call.value(name) for call in answers.calls[2:] if call.values and name in call.values]
        far = max((abs(other - value) for other in others), default=0.0)
        measure = Measure(
            name=f"{name}, change with batch size or order",
            value=far / max(abs(value), 1e-12),
            high=max(answers.tolerance, UNKNOWN_TOLERANCE),
            severity=Severity.WARN,
        )
        if measure.value > (measure.high or 0.0):
            text = f"{name} of the same examples depends on batch size or order: {value:.4g}, and up to {far:.2g} off."
            yield warning("evaluation/metric-by-batch", text, measures=(measure,))


def _wrong_when_large(answers: Answers) -> Iterator[Finding]:
    """On many copies of the same examples the numbers must stay."""
    size, said = answers.copies
    for name, known in answers.known.items():
        values = answers.each[known]
        exact, slack = float(np.resize(values, size).mean()), answers.slack(values)
        number = said.get(name, math.nan)
        first = answers.first.get(name, math.nan)
        if not (near(first, exact, slack) or near(first, PER_CENT * exact, PER_CENT * slack)):
            continue  # right by another definition, or averaged weights: nothing to hold it against
        measure = Measure(name=f"{name} of the large set", value=number, low=exact - slack, high=exact + slack)
        if not (near(number, exact, slack) or near(number, PER_CENT * exact, PER_CENT * slack)):
            text = (
                f"evaluate is right on {len(values)} examples and wrong on {size:,} made of the same ones: "
                f"{name} {number:.4g}, not {exact:.4g}."
            )
            yield failure("evaluation/half-precision-sum", text, measures=(measure,))
            return
        if sums_in_half(answers, name):
            text = (
                f"Every sum behind evaluate's {name} is a number that half precision can hold, which the true sums are "
                "not."
            )
            yield failure("evaluation/half-precision-sum", text)
            return
