"""What a watched function turned out to be, and which of several is the training step."""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxrecipe.adapters.watching.record import FEWEST_CALLS
from jaxrecipe.adapters.watching.recording import Recording, host_arrays
from jaxrecipe.adapters.watching.roles import Roles, roles_of

EVALUATION_NAME = re.compile(r"eval|valid|(^|_)test|metric|predict|infer|sample", re.IGNORECASE)


class Seen(enum.StrEnum):
    """What a function is, in words that stand in messages."""

    STEP = "a training step"
    PERHAPS = "gives back what it is given, but takes no gradient"
    EVALUATION = "an evaluation, by its name"
    OUTSIDE = "gives back what it is given, and the script changes that before the next call"
    NO_STATE = "gives back no state"
    NOTHING = "takes a gradient, and neither gives back nor changes anything that it is given"
    ONCE = "called too seldom"


@dataclass(frozen=True)
class Verdict:
    """What a function turned out to be.

    Attributes:
        seen: which of the kinds.
        recording: of its calls.
        roles: of its arguments; None where it has no state.
    """

    seen: Seen
    recording: Recording
    roles: Roles | None = None


def verdict_of(recording: Recording) -> Verdict:
    """What a function is."""
    if recording.seen < FEWEST_CALLS:
        return Verdict(Seen.ONCE, recording)
    if len(recording.calls) < FEWEST_CALLS:
        if recording.differentiates and not recording.returned:
            return Verdict(Seen.NOTHING, recording)
        return Verdict(Seen.OUTSIDE if recording.alike else Seen.NO_STATE, recording)
    roles = roles_of(recording)
    if roles.outside:
        return Verdict(Seen.OUTSIDE, recording, roles)
    if EVALUATION_NAME.search(recording.name.rsplit(".")[-1]) and not recording.differentiates:
        return Verdict(Seen.EVALUATION, recording, roles)
    return Verdict(Seen.STEP if recording.differentiates else Seen.PERHAPS, recording, roles)


def is_plainly_the_step(recording: Recording) -> bool:
    """Whether there is no need to wait for another function that may be the step."""
    return verdict_of(recording).seen is Seen.STEP


def steps_among(recordings: Sequence[Recording], *, gradients: bool = False, by_name: bool = False) -> list[Verdict]:
    """The functions that may be the training step, the likeliest first: those that change most in a call.

    Args:
        recordings: of every function that was called.
        gradients: whether a gradient was taken outside of them; one without a gradient is then none.
        by_name: whether the user has named them, so that any that has a state is one.
    """
    gradients = gradients or any(one.differentiates for one in recordings)
    order = (
        Seen.STEP,
        *(() if gradients and not by_name else (Seen.PERHAPS,)),
        *((Seen.EVALUATION,) if by_name else ()),
    )
    found = [verdict for verdict in map(verdict_of, recordings) if verdict.seen in order and _holds_arrays(verdict)]
    return sorted(found, key=lambda one: (order.index(one.seen), -one.recording.moved, -one.recording.seen))


def _holds_arrays(verdict: Verdict) -> bool:
    """Whether the state is more than some numbers, as those of running metrics."""
    recording = verdict.recording
    state = [
        recording.calls[0].given[i]
        for i in (verdict.roles.state if verdict.roles else ())
        if i in recording.calls[0].given
    ]
    held = host_arrays(state) + (host_arrays(recording.graph.state) if recording.graph else [])
    return any(np.ndim(leaf) > 0 for leaf in held)
