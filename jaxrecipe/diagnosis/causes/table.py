"""Every cause by its code: the one table behind hints, pages of `jaxrecipe explain` and the fault benchmark."""

from jaxrecipe.diagnosis.causes import (
    data,
    evaluation,
    examples,
    loss,
    model,
    optimizer,
    order,
    precision,
    program,
    splits,
    step,
)
from jaxrecipe.diagnosis.causes.cause import Cause

CAUSES: dict[str, Cause] = {
    row.code: row
    for area in (data, examples, splits, order, loss, model, optimizer, step, program, evaluation, precision)
    for row in area.CAUSES
}
"""By code, in the order of the areas."""


def cause(code: str, here: str = "") -> Cause:
    """The cause of that code, with what points to it here.

    Raises:
        ValueError: there is none; the message lists the codes of its area.
    """
    if code not in CAUSES:
        area = code.partition("/")[0]
        near = [known for known in CAUSES if known.startswith(f"{area}/")] or list(CAUSES)
        raise ValueError(f"no cause has the code {code!r}; there are {', '.join(near)}")
    return CAUSES[code].because(here) if here else CAUSES[code]


def causes(*codes: str) -> tuple[Cause, ...]:
    """The causes of these codes, in this order."""
    return tuple(map(cause, codes))
