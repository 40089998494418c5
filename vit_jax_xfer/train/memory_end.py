"""A run that memory ends: what may help, and from where the same command goes on."""

import contextlib
import os
from collections.abc import Iterator

from ml_collections import ConfigDict

from vit_jax_xfer.memory_errors import out_of_memory
from vit_jax_xfer.storage.checkpoints import CheckpointError
from vit_jax_xfer.train.workdir import folder_of


class OutOfMemory(MemoryError):
    """Memory ran out while a run went on. The message says in one line what to change."""


@contextlib.contextmanager
def telling_what_helps(config: ConfigDict, workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Context of a run: an error that says memory ran out becomes OutOfMemory."""
    try:
        yield
    except CheckpointError:
        raise  # which says what could not be written or read
    except Exception as error:
        if not (why := out_of_memory(error)) or isinstance(error, OutOfMemory):
            raise
        raise OutOfMemory(f"out of memory ({why}): {_advice(config, workdir)}") from error


def _advice(config: ConfigDict, workdir: str | os.PathLike[str]) -> str:
    """What to change; where there is a checkpoint, first that with which the run goes on."""
    free = ["model.remat='full'"] if config.model.get("remat", "") in (None, "none") else []
    free += ["mesh.fsdp over several devices", "a smaller eval.batch_size"]
    if config.data.workers:
        free.append(f"fewer data.workers than {config.data.workers}")
    fixed = [f"a smaller batch_size than {config.batch_size}"]
    fixed.append(f"optim.accumulate above {config.optim.accumulate}")
    if not _saved(workdir):
        return f"there is no checkpoint yet; what may help: {', '.join(fixed + free)}"
    return (
        f"the same command goes on from the newest checkpoint, also with {', '.join(free)}; in "
        f"another workdir {', '.join(fixed)} may help too"
    )


def _saved(workdir: str | os.PathLike[str]) -> bool:
    folder = folder_of(os.fspath(workdir)) / "checkpoints"
    return any(folder.glob("[0-9]*"))
