"""Every fault of the benchmark, in the order of their numbers."""

from experiments.faults.catalogue import of_data, of_evaluation, of_loss, of_model, of_step
from experiments.faults.catalogue.fault import Fault

FAULTS: tuple[Fault, ...] = tuple(
    sorted(
        (*of_data.FAULTS, *of_loss.FAULTS, *of_model.FAULTS, *of_step.FAULTS, *of_evaluation.FAULTS),
        key=lambda fault: (fault.number, fault.variant),
    )
)

__all__ = ["FAULTS", "Fault"]
