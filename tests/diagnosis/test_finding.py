"""Findings: their causes, what they advise, their order; and the ranking of causes over findings."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.diagnosis.causes.table import CAUSES, cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning, worst_first
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.diagnosis.ranking import ranked_causes

CODES = ("loss/softmax-twice", "loss/flat", "loss/broadcast", "loss/sign-flipped")
ORDERS = st.lists(st.lists(st.sampled_from(CODES), min_size=1, max_size=4, unique=True), max_size=5)


def naming(orders: list[list[str]]) -> list[Finding]:
    """A finding for each list of codes."""
    return [failure("mine/symptom", "Seen.", causes=causes(*codes)) for codes in orders]


def test_without_causes_a_finding_is_its_own() -> None:
    assert failure("loss/flat", "Flat.").causes == (cause("loss/flat"),)
    assert failure("loss/flat", "Flat.", causes=causes("loss/clipped")).causes == (cause("loss/clipped"),)
    assert failure("mine/own", "Own.").causes == ()
    assert failure("mine/own", "Own.").hint == ""


def test_severities() -> None:
    assert failure("loss/flat", "Flat.").severity is Severity.FAIL
    assert warning("loss/flat", "Flat.").severity is Severity.WARN


def test_the_hint_is_the_first_cause_in_full_and_the_others_by_title() -> None:
    first = cause("loss/flat", here="In head a.")
    hint = failure("mine/own", "Own.", causes=(first, cause("loss/clipped"))).hint
    assert hint.startswith(f"{first.title} In head a. {first.fix}")
    assert CAUSES["loss/clipped"].title.rstrip(".") in hint
    assert CAUSES["loss/clipped"].fix not in hint


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(Severity)))
def test_worst_first_is_a_stable_order(severities: list[Severity]) -> None:
    findings = [Finding(code="a/b", severity=s, message=str(i)) for i, s in enumerate(severities)]
    ordered = worst_first(findings)
    assert [f for f in ordered if f.severity is Severity.FAIL] == [f for f in findings if f.severity is Severity.FAIL]
    assert [f for f in ordered if f.severity is Severity.WARN] == [f for f in findings if f.severity is Severity.WARN]
    assert sorted(f.severity is not Severity.FAIL for f in ordered) == [
        f.severity is not Severity.FAIL for f in ordered
    ]


@settings(deadline=None, max_examples=50)
@given(ORDERS)
def test_causes_are_ranked_by_votes(orders: list[list[str]]) -> None:
    """By plain loops: each finding gives one vote in all, split 1 : 1/2 : 1/3 : 1/4."""
    findings = naming(orders)
    votes: dict[str, float] = {}
    for finding in findings:
        weights = [1 / (place + 1) for place in range(len(finding.causes))]
        for weight, named in zip(weights, finding.causes, strict=True):
            votes[named.code] = votes.get(named.code, 0.0) + weight / sum(weights)
    ranked = [named.code for named in ranked_causes(findings)]
    assert sorted(ranked) == sorted(votes)
    assert all(votes[a] >= votes[b] - 1e-12 for a, b in itertools.pairwise(ranked))


@settings(deadline=None, max_examples=30)
@given(ORDERS, st.sampled_from(CODES))
def test_one_more_vote_never_lowers_a_cause(orders: list[list[str]], code: str) -> None:
    findings = naming(orders)
    before = [named.code for named in ranked_causes(findings)]
    after = [named.code for named in ranked_causes([*findings, failure("mine/symptom", "Seen.", causes=causes(code))])]
    assert after.index(code) <= (before.index(code) if code in before else len(before))


def test_of_two_with_one_code_the_one_with_evidence_is_kept() -> None:
    plain = failure("mine/a", "A.", causes=causes("loss/flat"))
    pointed = failure("mine/b", "B.", causes=(cause("loss/flat", here="In head a."),))
    assert ranked_causes([plain, pointed])[0].here == "In head a."
    assert ranked_causes([pointed, plain])[0].here == "In head a."


def test_a_proven_cause_takes_the_votes_of_what_it_brings_about() -> None:
    symptoms = [failure("optimizer/diverged", "No longer finite.", causes=causes("optimizer/diverged"))] * 3
    proven = failure("model/gradient-not-finite", "Three examples spoil it.")
    assert ranked_causes([*symptoms, proven])[0].code == "model/gradient-not-finite"
    worth_a_look = warning("model/gradient-not-finite", "Three examples spoil it.")
    assert ranked_causes([*symptoms, worth_a_look])[0].code == "optimizer/diverged"
