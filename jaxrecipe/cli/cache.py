"""JAX's persistent compilation cache, switched on for the command line only: a second run compiles nothing anew."""

import os
import tempfile
from pathlib import Path

import jax

SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
"""A recipe is many small programs, each of which JAX would think too quick or too small to be worth keeping."""


def keep_programs(folder: Path | None = None) -> Path | None:
    """Keep compiled programs in a folder from now on, by default in the user's cache folder.

    Returns:
        The folder; None where nothing was changed: the user has chosen a folder or switched the cache off, by JAX's own
        settings, or the folder cannot be written to.
    """
    settings = jax.config.values
    chosen = settings["jax_compilation_cache_dir"] or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = folder or user_folder()
    if chosen or not settings["jax_enable_compilation_cache"] or not _writable(folder):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in SETTINGS.items():
        jax.config.update(name, value)
    return folder


def user_folder() -> Path:
    """Where programs are kept: $XDG_CACHE_HOME/jaxrecipe/xla, or ~/.cache/jaxrecipe/xla."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(caches) / "jaxrecipe" / "xla"


def _writable(folder: Path) -> bool:
    """Whether files can be made there, found out by making one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
