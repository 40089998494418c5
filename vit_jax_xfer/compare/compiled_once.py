"""Programs that several runs share, compiled once."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_FOLDER = "jax_compilation_cache_dir"
# Of all programs, however quickly they were compiled.
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Within it no program is compiled twice: runs that differ in their seed alone share theirs.

    By JAX's cache on disk, in a folder of its own that is removed at the end, so that no program of
    another machine or version is ever met. Where the user has a cache, that one is used, as it is.
    Programs that multiply by oneDNN (compiler.py) are compiled each time: JAX can't keep those.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vit_jax_xfer_") as folder:
        before = cache_settings()
        try:
            use_cache({**_SETTINGS, _FOLDER: folder})
            yield
        finally:
            use_cache(before)


def cache_settings() -> dict[str, Any]:
    """JAX's settings of its cache, as they are, for `use_cache` of another process."""
    return {name: getattr(jax.config, name) for name in (_FOLDER, *_SETTINGS)}


def use_cache(settings: Mapping[str, Any]) -> None:
    """Sets what `cache_settings` gave."""
    for name, value in settings.items():
        jax.config.update(name, value)
    # JAX decides once in a process whether and where it keeps programs.
    compilation_cache.reset_cache()
