"""Programs that several runs share, compiled once."""

import contextlib
import tempfile
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

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
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vit_jax_xfer_") as folder:
        settings = {**_SETTINGS, "jax_compilation_cache_dir": folder}
        before = {name: getattr(jax.config, name) for name in settings}
        try:
            _set(settings)
            yield
        finally:
            _set(before)


def _set(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    # JAX decides once in a process whether and where it keeps programs.
    compilation_cache.reset_cache()
