"""The tables of the benchmark, as Markdown and as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.faults.case import OWN, Outcome
from experiments.faults.peers import PEERS
from experiments.faults.score import (
    BY_NAME,
    FEW,
    Scores,
    Share,
    alarmed,
    placed,
    rank_of_right_cause,
    right_in_first_check,
    right_within,
)
from jaxrecipe.catalogue import CATEGORIES, CONTROLS, FAULTS, SEEDS

LOUD = ("FAIL", "WARN", "CRASHED", "TIMEOUT")
"""How a check ends that has something to say."""
SHOWN = 5
"""Causes that the table shows."""
LONGEST = 140
"""Characters of a headline that the table shows."""


def markdown(scores: Scores) -> str:
    """Everything, as one page."""
    parts = [
        "# The fault benchmark\n",
        "Made by `python -m experiments.faults`; how to read it is in [docs/faults.md](../../docs/faults.md).\n",
        _totals(scores),
        _missed(scores),
        _faults(scores),
        _controls(scores),
        _alone(scores),
        _by_category(scores),
        _peers(scores),
        _facts(scores),
    ]
    return "\n".join(part for part in parts if part)


def rows(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return (
        "\n".join(
            "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in line) + " |" for line in lines
        )
        + "\n"
    )


def short(text: str) -> str:
    """A text cut to what a table can show."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _totals(scores: Scores) -> str:
    numbers, seconds = scores.numbers(), scores.seconds or [0.0]
    body = [
        ("recall: faults with a FAIL", scores.found),
        ("of the 64 numbers, at least one variant found", f"{numbers['found']} of {numbers['there']}"),
        ("top-1: found, and the right cause is the report's first", scores.top_1),
        ("… among the faults found", scores.top_1_if_found),
        ("top-3: found, and a right cause is among the report's first three", scores.top_3),
        ("… among the faults found", scores.top_3_if_found),
        ("by check, top-1: the right cause is the first of the first check that fails", scores.first_check),
        ("a WARN and no FAIL (counts as not found)", scores.warned_only),
        ("false alarms: a FAIL, a crash or no answer on a control", scores.alarms),
        ("controls with a WARN and nothing worse", scores.warnings),
        ("seconds a case: median, most", f"{seconds[len(seconds) // 2]:.1f}, {seconds[-1]:.1f}"),
    ]
    kinds = len({outcome.case.name for outcome in scores.controls})
    note = (
        f"{len(scores.faults)} faults of {numbers['there']} numbers; {kinds} controls in up to {len(SEEDS)} seeds, "
        f"{len(scores.controls)} runs. Shares with Wilson's 95 % interval."
    )
    return f"## Totals\n\n{note}\n\n" + rows(("", ""), body)


def _missed(scores: Scores) -> str:
    """Faults that were not found, or whose right cause is not first, with what was said instead."""
    missed = [outcome for outcome in scores.faults if not right_within(outcome, 1)]
    title = "## Not found, or the right cause not first\n\n"
    if not missed:
        return title + "None.\n"
    body = []
    for outcome in missed:
        fault = BY_NAME[outcome.case.name]
        said = [f"{c.name} {c.status}: {short(c.headline)}" for c in outcome.of_status(*LOUD)]
        state = "not found" if not outcome.failed else placed(outcome)
        causes = ("<br>".join(fault.causes), "<br>".join(outcome.causes[:SHOWN]) or "none")
        body.append((fault.name, fault.title, state, *causes, "<br>".join(said) or outcome.stopped or "nothing"))
    return title + rows(("fault", "what is wrong", "right cause", "accepted", "named", "what was said"), body)


def _faults(scores: Scores) -> str:
    body = []
    for outcome in scores.faults:
        fault = BY_NAME[outcome.case.name]
        state = "yes" if outcome.failed else "warned" if outcome.of_status("WARN") else "no"
        body.append(
            (
                f"{fault.number}{fault.variant}",
                fault.title,
                fault.on.__name__,
                state,
                ", ".join(check.name for check in outcome.failed),
                rank_of_right_cause(outcome) or "–",
                "yes" if right_in_first_check(outcome) else "no",
                f"{outcome.seconds:.0f}",
            )
        )
    head = (
        "",
        "what is wrong",
        "planted in",
        "found",
        "by",
        "place of the right cause",
        "first in its first check",
        "s",
    )
    return "## Each fault\n\n" + rows(head, body)


def _controls(scores: Scores) -> str:
    body = []
    for control in CONTROLS:
        mine = [outcome for outcome in scores.controls if outcome.case.name == control.name]
        loud = [f"{c.name} ({o.case.seed})" for o in mine for c in o.of_status("FAIL", "CRASHED", "TIMEOUT")]
        stopped = [f"{o.stopped} ({o.case.seed})" for o in mine if o.stopped]
        warned = [f"{c.name} ({o.case.seed})" for o in mine for c in o.of_status("WARN")]
        if mine:
            mean = sum(outcome.seconds for outcome in mine) / len(mine)
            body.append((control.name, ", ".join(loud + stopped) or "none", ", ".join(warned) or "none", f"{mean:.0f}"))
    return "## Healthy controls\n\nThe seed stands in brackets.\n\n" + rows(
        ("control", "alarms", "warnings", "s"), body
    )


def _alone(scores: Scores) -> str:
    """What each check adds: faults that it finds, and those that no other check finds."""
    names = dict.fromkeys(check.name for outcome in scores.faults for check in outcome.checks)
    alone, body = scores.alone(), []
    for name in names:
        finds = [o for o in scores.faults if name in [check.name for check in o.failed]]
        first = [(o, code) for o in finds for c in o.failed if c.name == name for code in (c.causes or [()])[0][:1]]
        names_it = sum(code in BY_NAME[o.case.name].causes for o, code in first)
        seconds = [c.seconds for o in (*scores.faults, *scores.controls) for c in o.checks if c.name == name]
        body.append(
            (
                name,
                len(finds),
                names_it,
                len(alone.get(name, [])),
                ", ".join(alone.get(name, [])),
                f"{sum(seconds) / len(seconds):.1f}",
            )
        )
    head = ("check", "faults it fails on", "right cause first", "alone", "which", "mean s")
    return "## What each check adds\n\n" + rows(head, body)


def _by_category(scores: Scores) -> str:
    """Where faults of a category are found: by category, how many of its faults each check fails on."""
    checks = list(dict.fromkeys(check.name for o in scores.faults for check in o.failed))
    body = []
    for category in CATEGORIES:
        mine = [o for o in scores.faults if BY_NAME[o.case.name].category == category]
        counts = [sum(name in [c.name for c in o.failed] for o in mine) or "" for name in checks]
        found = sum(bool(o.failed) for o in mine)
        top_1, top_3 = (sum(right_within(o, most) for o in mine) for most in (1, FEW))
        shares = (f"{part}/{len(mine)}" for part in (found, top_1, top_3))
        body.append((category, *shares, *counts))
    return "## By category\n\n" + rows(("category", "found", "top-1", "top-3", *checks), body)


def _peers(scores: Scores) -> str:
    """The peers on what could be expressed for them, beside this project on the same faults and controls."""
    body = []
    for peer in PEERS:
        theirs = scores.of(peer)
        if not theirs.faults:
            body.append((peer, "not installed here, so not run", *[""] * 5))
            continue
        shared = {o.case.name for o in theirs.faults}, {o.case.name for o in theirs.controls}
        ours = Scores([o for o in scores.everything if o.case.tool == OWN and o.case.name in (*shared[0], *shared[1])])
        body += [_peer_row(peer, theirs), _peer_row(f"jaxrecipe on the same {len(theirs.faults)}", ours)]
    head = ("tool", "found", "warned only", "false alarms", "controls warned", "median s", "most s")
    return "## Peers\n\n" + rows(head, body) + _not_expressed(scores)


def _peer_row(name: str, scores: Scores) -> tuple[object, ...]:
    seconds = scores.seconds or [0.0]
    return (
        name,
        scores.found,
        scores.warned_only,
        scores.alarms,
        scores.warnings,
        f"{seconds[len(seconds) // 2]:.1f}",
        f"{seconds[-1]:.1f}",
    )


def _not_expressed(scores: Scores) -> str:
    """What could not be given to any peer, and why."""
    given = {o.case.name for peer in PEERS for o in scores.of(peer).faults}
    if not given:
        return ""
    from experiments.faults.peers.torch_cases import WHY_NOT

    lines = ["\nNot expressed for the peers:\n"]
    for what, why, numbers in WHY_NOT:
        left = [f.name for f in FAULTS if f.number in numbers and f.name not in given]
        if left:
            lines.append(f"- {what} ({why}): {', '.join(left)}")
    return "\n".join(lines) + "\n"


def _facts(scores: Scores) -> str:
    seen: dict[str, list[str]] = {}
    for outcome in scores.everything:
        for name, value in outcome.facts.items():
            if value not in seen.setdefault(name, []):
                seen[name].append(value)
    lines = [f"- {name}: {', '.join(values)}" for name, values in seen.items()]
    return (
        "## Measured with\n\n"
        + "\n".join([*lines, f"- seeds: {', '.join(map(str, SEEDS))} of the controls, 0 of the faults"])
        + "\n"
    )


def to_data(scores: Scores) -> dict[str, Any]:
    """Everything as JSON: totals of each tool, and each case."""
    return {
        "totals": {tool: _numbers(scores.of(tool)) for tool in (OWN, *PEERS)},
        "cases": [_case(o) for o in scores.everything],
    }


def _numbers(scores: Scores) -> dict[str, Any]:
    shares: dict[str, Share] = {
        "found": scores.found,
        "top_1": scores.top_1,
        "top_3": scores.top_3,
        "by_check_top_1": scores.first_check,
        "warned_only": scores.warned_only,
        "false_alarms": scores.alarms,
        "controls_warned": scores.warnings,
    }
    return {**{name: share.data() for name, share in shares.items()}, "seconds": sum(scores.seconds)}


def _case(outcome: Outcome) -> dict[str, Any]:
    """A case: what was said by the checks that did not pass, and the verdict."""
    loud = [{**vars(c), "seconds": round(c.seconds, 2)} for c in outcome.of_status(*LOUD)]
    facts = {name: outcome.facts[name] for name in ("commit",) if name in outcome.facts}
    ended = {"seconds": outcome.seconds, "stopped": outcome.stopped, "causes": list(outcome.causes)}
    data = {**vars(outcome.case), **ended, "checks": loud, **facts}
    if outcome.case.kind == "fault" and outcome.case.name in BY_NAME:
        return {**data, "found": bool(outcome.failed), "rank": rank_of_right_cause(outcome)}
    return {**data, "alarm": alarmed(outcome)}
