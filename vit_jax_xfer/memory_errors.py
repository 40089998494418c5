"""Whether an error says that memory ran out, of the host or of a device, and how it says so."""

import errno

# In texts of errors that are of no class of their own: XLA's status, its allocators', C++'s, and
# Python's where a thread has no room for its stack.
_SIGNS = (
    "RESOURCE_EXHAUSTED",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "out of memory",
    "std::bad_alloc",
    "can't start new thread",
    "thread constructor failed",
)
_LONGEST = 200


def out_of_memory(error: BaseException) -> str:
    """The line in which an error says that memory, or room for a thread, ran out; "" = it doesn't.

    Every MemoryError says so, an OSError by its number, and a RuntimeError, as JAX's are, by its
    words; those of a full disk may have the same. Errors of other classes name what else is wrong.
    """
    words = str(error).lower()
    if isinstance(error, OSError):
        said = error.errno == errno.ENOMEM
    elif isinstance(error, RuntimeError):
        said = "no space left" not in words and any(sign.lower() in words for sign in _SIGNS)
    else:
        said = isinstance(error, MemoryError)
    if not said:
        return ""
    line = next(iter(str(error).strip().splitlines()), "") or "none is left"
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
