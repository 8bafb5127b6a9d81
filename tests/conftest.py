"""Strict tests: dtype promotion must be spelled out, and every annotated shape and dtype is checked at run time.

All processes of one run share a folder of compiled programs, so that none is compiled twice; it goes with the run.
What takes the time is compiling thousands of small programs, so XLA is told not to make them fast.
"""

import gc
import os
import shutil
import tempfile
from importlib.metadata import version

import pytest

# Read by jax when it is imported, by the other test processes and by the programs that tests start.
OURS = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="jaxrecipe-programs-")
if OURS is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = OURS
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Ten times as quick to compile for a CPU. A flag that another jaxlib does not know would end the process. What the
# caller asks for stands last and wins.
QUICK = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if QUICK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_dtype_promotion", "strict")
hook = install_import_hook("jaxrecipe", "beartype.beartype")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported stays: the collector does not look through it again while the tests run."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the programs of this run, in the process that made their folder."""
    if OURS is not None:
        shutil.rmtree(OURS, ignore_errors=True)
