"""Read by Python when a project is started: makes the modules idle that its row in `projects.py` names, and restores
functions that JAX once had.
"""

import os

from idle import stand_in

stand_in(os.environ.get("JAXRECIPE_IDLE", "").split())
for name in os.environ.get("JAXRECIPE_RESTORES", "").split():
    import jax

    setattr(jax, name, getattr(jax.tree, name.removeprefix("tree_")))
