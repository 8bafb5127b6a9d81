"""Strict tests: dtype promotion must be spelled out, and every annotated shape and dtype is checked at run time."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_dtype_promotion", "strict")
hook = install_import_hook("jaxrecipe", "beartype.beartype")
