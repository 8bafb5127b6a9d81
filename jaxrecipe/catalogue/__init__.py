"""Silent faults that people make, each a function that plants it in a healthy set-up, beside healthy controls.

One catalogue for the demonstration, the tests and the benchmark. `import jaxrecipe` does not load it.
"""

from jaxrecipe.catalogue.controls import CONTROLS, SEEDS, Control
from jaxrecipe.catalogue.fault import CATEGORIES, Base, Fault, Plant
from jaxrecipe.catalogue.own_loop import own_loop, with_own_loop
from jaxrecipe.catalogue.real_data import VOCABULARY
from jaxrecipe.catalogue.table import FAULTS, fault_called

__all__ = [
    "CATEGORIES",
    "CONTROLS",
    "FAULTS",
    "SEEDS",
    "VOCABULARY",
    "Base",
    "Control",
    "Fault",
    "Plant",
    "fault_called",
    "own_loop",
    "with_own_loop",
]
