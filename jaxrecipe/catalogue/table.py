"""Every fault of the catalogue, in the order of their numbers."""

from jaxrecipe.catalogue import bare_step, data, evaluation, loss, model, reported, step
from jaxrecipe.catalogue.fault import Fault

FAULTS: tuple[Fault, ...] = tuple(
    sorted(
        (fault for area in (data, loss, model, step, bare_step, evaluation, reported) for fault in area.FAULTS),
        key=lambda fault: (fault.number, fault.variant),
    )
)
"""All of them."""


def fault_called(name: str) -> Fault:
    """The fault of that name.

    Raises:
        ValueError: there is none; the message lists those of the same number, or all.
    """
    for fault in FAULTS:
        if fault.name == name:
            return fault
    near = [fault.name for fault in FAULTS if fault.name[:2] == name[:2]] or [fault.name for fault in FAULTS]
    raise ValueError(f"no fault is called {name!r}; there are {', '.join(near)}")
