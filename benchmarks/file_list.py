"""What the list of a very large folder costs, without the folder: 14 million names by default.

    python -m benchmarks.file_list [--images=14197122] [--classes=21841]

`os.scandir` tells of files that are not there; all else is what a run does when it opens
folder:PATH. Prints the CPU seconds and the memory of the list, what is written for a worker process
and for one of a second evaluation, and what such a worker's copy takes beyond the shared memory.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import threading
import time
from collections.abc import Iterator
from unittest import mock

from benchmarks.process_memory import private
from vit_jax_xfer.data.shared_arrays import Handed, received
from vit_jax_xfer.data.sources.folder import FolderSource, list_folder

_MIB = 2**20


class _Entry:
    """A file or folder as os.scandir tells of it."""

    def __init__(self, name: str, folder: bool):
        self.name, self._folder = name, folder

    def is_dir(self) -> bool:
        return self._folder

    def is_file(self) -> bool:
        return not self._folder


class _Folder:
    """ImageNet-21k's names: so many classes, each with its part of the images."""

    def __init__(self, path: os.PathLike, images: int, classes: int):
        self._path, self._images, self._classes = pathlib.Path(path), images, classes

    def __enter__(self) -> Iterator[_Entry]:
        if self._path.name == "train":
            return (_Entry(f"n{i:08d}", True) for i in range(self._classes))
        number = int(self._path.name[1:])
        first, end = (self._images * i // self._classes for i in (number, number + 1))
        return (_Entry(f"{self._path.name}_{i}.JPEG", False) for i in range(end - first))

    def __exit__(self, *error: object) -> None:
        pass


def simulated(images: int, classes: int) -> FolderSource:
    """The source of a folder PATH/train with so many images, none of which is there."""
    with (
        mock.patch("os.scandir", lambda path: _Folder(path, images, classes)),
        mock.patch.object(pathlib.Path, "is_dir", lambda path: True),
    ):
        return list_folder("/simulated", "train")


def handed_over(source: FolderSource) -> tuple[int, int]:
    """Bytes that are written for a worker, and resident bytes that its copy adds."""
    ours, theirs = multiprocessing.Pipe()
    handed = Handed(source)
    with ours, theirs:
        sender = threading.Thread(target=handed.send, args=(ours,))
        sender.start()
        before = private()
        copy = received(theirs)
        sender.join()
        assert len(copy) == len(source) and copy.files[-1] == source.files[-1]
        added = private() - before
    own = 0 if handed._own is None else os.fstat(handed._own.fileno()).st_size
    handed.close()
    return len(handed.task) + own, added


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=14_197_122)
    parser.add_argument("--classes", type=int, default=21_841)
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    source = simulated(options.images, options.classes)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    written, added = handed_over(source)
    again, _ = handed_over(source)
    print(
        json.dumps(
            {
                "images": len(source),
                "cpu_seconds": round(seconds, 1),
                "list_MiB": round((source.files.nbytes + source.all_labels.nbytes) / _MIB),
                "peak_MiB": round(peak / 1024),
                "written_for_a_worker_KiB": round(written / 1024),
                "again_KiB": round(again / 1024),
                "private_of_a_worker_MiB": round(added / _MIB, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
