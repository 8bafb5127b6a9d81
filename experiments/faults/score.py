"""What the outcomes amount to: found or not, by what, whether the right cause is named first; alarms on controls; with
intervals.
"""

from collections.abc import Sequence
from functools import cached_property

from experiments.faults.case import OWN, Outcome
from jaxrecipe import wilson
from jaxrecipe.catalogue import FAULTS, Fault

BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}
FEW = 3
"""Causes that a reader is expected to try."""


def rank_of_right_cause(outcome: Outcome) -> int | None:
    """At which place, from 1, the causes of a fault that was found hold an accepted one; None where they hold none."""
    accepted = BY_NAME[outcome.case.name].causes
    ranks = [rank for rank, code in enumerate(outcome.causes, start=1) if code in accepted]
    return min(ranks, default=None) if outcome.failed else None


def right_within(outcome: Outcome, most: int) -> bool:
    """Whether an accepted cause stands among the first few."""
    rank = rank_of_right_cause(outcome)
    return rank is not None and rank <= most


def right_in_first_check(outcome: Outcome) -> bool:
    """Whether the first cause of the first finding of the first check that fails is an accepted one."""
    first = [code for check in outcome.failed[:1] for causes in check.causes[:1] for code in causes[:1]]
    return bool(set(first) & set(BY_NAME[outcome.case.name].causes))


def verdict(outcome: Outcome) -> str:
    """One line about an outcome."""
    words = [f"{outcome.case.key:60} {outcome.seconds:6.1f} s "]
    if outcome.case.kind == "fault":
        words.append(f"found, right cause {placed(outcome)}" if outcome.failed else "MISSED")
    else:
        words.append("ALARM" if alarmed(outcome) else "quiet")
    for status in ("FAIL", "CRASHED", "TIMEOUT", "WARN"):
        if names := [check.name for check in outcome.of_status(status)]:
            words.append(f"{status}: {', '.join(names)}")
    if outcome.stopped:
        words.append(f"stopped: {outcome.stopped}")
    return "  ".join(words)


def placed(outcome: Outcome) -> str:
    """Where the right cause stands, in words."""
    rank = rank_of_right_cause(outcome)
    return "not named" if rank is None else "first" if rank == 1 else f"at place {rank}"


def alarmed(outcome: Outcome) -> bool:
    """Whether a control got a failure, a crash, or no answer."""
    return bool(outcome.of_status("FAIL", "CRASHED", "TIMEOUT") or outcome.stopped)


class Share:
    """So many of so many, with Wilson's 95 % interval."""

    def __init__(self, part: int, total: int) -> None:
        """Count."""
        self.part, self.total = part, total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; all of [0, 1] when there is nothing."""
        if not self.total:
            return 0.0, 1.0
        estimate = wilson(self.part, self.total)
        return estimate.low, estimate.high

    def __str__(self) -> str:
        """As `57 of 60, 95.0 % (86.3 – 98.3)`."""
        low, high = self.interval
        return (
            f"{self.part} of {self.total}, {100 * self.part / max(self.total, 1):.1f} % ({100 * low:.1f} – "
            f"{100 * high:.1f})"
        )

    def data(self) -> dict[str, float]:
        """As JSON."""
        low, high = self.interval
        return {
            "part": self.part,
            "total": self.total,
            "share": self.part / max(self.total, 1),
            "low": low,
            "high": high,
        }


class Scores:
    """The totals of outcomes, for one tool at a time."""

    def __init__(self, outcomes: Sequence[Outcome], tool: str = OWN) -> None:
        """Keep those of the tool apart from the rest."""
        self.everything, self.tool = list(outcomes), tool
        mine = [outcome for outcome in outcomes if outcome.case.tool == tool]
        known = [outcome for outcome in mine if outcome.case.kind == "fault" and outcome.case.name in BY_NAME]
        self.faults = sorted(known, key=lambda outcome: outcome.case.name)
        self.controls = sorted((o for o in mine if o.case.kind == "control"), key=lambda o: (o.case.name, o.case.seed))

    def of(self, tool: str) -> "Scores":
        """The same of another tool."""
        return Scores(self.everything, tool)

    @cached_property
    def found(self) -> Share:
        """Faults that a check fails on."""
        return Share(sum(bool(outcome.failed) for outcome in self.faults), len(self.faults))

    @cached_property
    def top_1(self) -> Share:
        """Faults that are found and whose first cause is right."""
        return Share(sum(right_within(outcome, 1) for outcome in self.faults), len(self.faults))

    @cached_property
    def top_3(self) -> Share:
        """Faults that are found and whose first three causes hold a right one."""
        return Share(sum(right_within(outcome, FEW) for outcome in self.faults), len(self.faults))

    @property
    def top_1_if_found(self) -> Share:
        """The right cause first, among the faults that were found."""
        return Share(self.top_1.part, self.found.part)

    @property
    def top_3_if_found(self) -> Share:
        """A right cause among the first three, among the faults that were found."""
        return Share(self.top_3.part, self.found.part)

    @property
    def first_check(self) -> Share:
        """Faults whose right cause already stands first in the first failing check."""
        return Share(sum(map(right_in_first_check, self.faults)), len(self.faults))

    @property
    def warned_only(self) -> Share:
        """Faults that got a warning and no failure."""
        only = [o for o in self.faults if not o.failed and o.of_status("WARN")]
        return Share(len(only), len(self.faults))

    @property
    def alarms(self) -> Share:
        """Controls (a seed each) with a failure, a crash or no answer."""
        return Share(sum(map(alarmed, self.controls)), len(self.controls))

    @property
    def warnings(self) -> Share:
        """Controls with a warning and no alarm."""
        only = [o for o in self.controls if not alarmed(o) and o.of_status("WARN")]
        return Share(len(only), len(self.controls))

    @property
    def seconds(self) -> list[float]:
        """Wall time of each case."""
        return sorted(outcome.seconds for outcome in (*self.faults, *self.controls))

    def numbers(self) -> dict[str, int]:
        """How many of the 64 numbers have at least one variant found, and are there at all."""
        there = {BY_NAME[o.case.name].number for o in self.faults}
        found = {BY_NAME[o.case.name].number for o in self.faults if o.failed}
        return {"found": len(found), "there": len(there)}

    def alone(self) -> dict[str, list[str]]:
        """By check: the faults that it alone fails on."""
        by: dict[str, list[str]] = {}
        for outcome in self.faults:
            if len(outcome.failed) == 1:
                by.setdefault(outcome.failed[0].name, []).append(outcome.case.name)
        return by

    def summary(self) -> str:
        """The totals in a few lines."""
        seconds = self.seconds or [0.0]
        return "\n".join(
            [
                f"found           {self.found}",
                f"top-1           {self.top_1}",
                f"top-3           {self.top_3}",
                f"by check top-1  {self.first_check}",
                f"warned only     {self.warned_only}",
                f"false alarms    {self.alarms}",
                f"only warnings   {self.warnings} of the controls",
                f"seconds a case  median {seconds[len(seconds) // 2]:.1f}, most {seconds[-1]:.1f}, all "
                f"{sum(seconds):.0f}",
            ]
        )
