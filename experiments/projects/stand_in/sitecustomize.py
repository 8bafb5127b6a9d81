"""Read by Python when a project is started: the modules that its row in `projects.py` names are idle ones."""

import os

from idle import stand_in

stand_in(os.environ.get("JAXRECIPE_IDLE", "").split())
