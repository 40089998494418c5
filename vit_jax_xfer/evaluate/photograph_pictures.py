"""A picture for each of a command's photographs: where it goes, and the batches that make it."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.command_line.out_places import out_folder
from vit_jax_xfer.evaluate.dense_models import PreparedPhotograph, prepare_photograph, stacked
from vit_jax_xfer.explain.image_files import check_free, find_images, picture_names
from vit_jax_xfer.explain.progress import Progress


@dataclasses.dataclass(frozen=True)
class PhotographPictures:
    """folder: of what is written. names: what the picture of each file is called, by its path."""

    folder: Path
    names: dict[str, str]

    def path(self, file: str, ending: str = ".png") -> Path:
        """Where something goes that is made of a photograph."""
        return self.folder / f"{self.names[file]}{ending}"

    def work(
        self,
        pipeline: str,
        program: Callable[[dict[str, Any]], Sequence[Any]],
        finish: Callable[[PreparedPhotograph, Any], None],
        batch_size: int,
        broken: list[str],
    ) -> None:
        """Runs a program on batches of photographs, and `finish` on each with what it gave.

        The last batch is filled up with zeros. broken: gets a line for each file that can't be
        read.
        """
        files = list(self.names)
        batch_size = min(batch_size, len(files))
        self.folder.mkdir(parents=True, exist_ok=True)
        with Progress(len(files)) as progress:
            for start in range(0, len(files), batch_size):
                prepared = []
                for file in files[start : start + batch_size]:
                    try:
                        prepared.append(prepare_photograph(file, pipeline))
                    except (ValueError, OSError) as error:
                        broken.append(str(error))
                if prepared:
                    found = _run(program, prepared, batch_size)
                    for one, result in zip(prepared, found, strict=False):
                        finish(one, result)
                progress.report(min(start + batch_size, len(files)))


def _run(
    program: Callable[[dict[str, Any]], Sequence[Any]],
    prepared: list[PreparedPhotograph],
    batch_size: int,
) -> Sequence[Any]:
    """What a program gives of a batch. ValueError naming the photograph of which it is refused."""
    try:
        return program(stacked(prepared, batch_size))
    except ValueError:
        for one in prepared:
            try:
                program(stacked([one], batch_size))
            except ValueError as error:
                raise ValueError(f"{one.file}: {error}") from None
        raise


def open_pictures(
    options: argparse.Namespace, more: Sequence[str] = (), endings: Sequence[str] = (".png",)
) -> PhotographPictures:
    """The photographs of the flags `photos`, `out` and `overwrite`, checked before anything runs.

    more: other files that will be in the folder. endings: of what is written of each photograph.
    ValueError where there are no photographs, or something would be overwritten.
    """
    folder = out_folder(options.out, "--out")
    files = find_images(options.photos, folder)
    names = dict(zip(map(str, files), picture_names(files), strict=True))
    pictures = PhotographPictures(folder, names)
    written = [folder / name for name in more]
    written += [pictures.path(file, ending) for file in names for ending in endings]
    check_free(written, "--out", options.overwrite, files)
    return pictures
