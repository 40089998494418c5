"""Images in a .tar archive as it was downloaded; nothing of it is unpacked into a folder."""

import functools
import pathlib
import tarfile
from dataclasses import dataclass

import numpy as np

from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.sources.folder import EXTENSIONS
from vit_jax_xfer.data.sources.visible_files import is_hidden

_MOST_BYTES = 2**30  # of one image


@dataclass
class TarSource:
    """Reads and decodes `files[i]` on access, from where it begins in the archive.

    places: int64 (N, 2), first byte and number of bytes. labels int64 (N,) index `class_names`.
    """

    path: str
    files: list[str]
    places: np.ndarray
    all_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    left_out: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many folders of classes there are."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        start, size = (int(number) for number in self.places[index])
        with pathlib.Path(self.path).open("rb") as file:
            file.seek(start)
            data = file.read(size)
        name = f"{self.path}:{self.files[index]}"
        label = int(self.all_labels[index])
        return {"image": decode_image(data, name), "label": label, "name": name}

    def labels(self) -> np.ndarray:
        """All labels, int64 (N,)."""
        return self.all_labels


def open_tar(path: str | pathlib.Path, inside: str = "") -> TarSource:
    """The images of an archive; each one's class is the folder that it lies in.

    inside: of these folders alone, "fog/3"; "" = wherever they are. Classes and files are sorted;
    what lies in no folder is left out. ValueError where the archive is packed or broken, and where
    it has no images there.
    """
    found = [
        (folders[-1], name, start, size)
        for name, start, size in tar_images(path)
        if (folders := name.split("/")[:-1])
        and (not inside or f"/{inside}/" in f"/{'/'.join(folders)}/")
    ]
    if not found:
        where = f" in {inside}" if inside else " in folders"
        raise ValueError(f"{path}: holds no images{where} ({', '.join(EXTENSIONS)})")
    found.sort()
    names = sorted({folder for folder, *_ in found})
    places = {name: number for number, name in enumerate(names)}
    return TarSource(
        path=str(path),
        files=[file for _, file, *_ in found],
        places=np.array([(start, size) for *_, start, size in found], np.int64),
        all_labels=np.array([places[folder] for folder, *_ in found], np.int64),
        class_names=tuple(names),
        name=f"tar:{path}" + (f"/{inside}" if inside else ""),
    )


def tar_images(path: str | pathlib.Path) -> tuple[tuple[str, int, int], ...]:
    """(name, first byte, number of bytes) of each image of an archive, which is read once.

    ValueError where the archive is packed or broken.
    """
    said = pathlib.Path(path).stat()
    return _images(str(path), said.st_mtime_ns, said.st_size)


@functools.lru_cache(maxsize=8)  # an archive of ImageNet-C has 750,000 images, of 15 sets
def _images(path: str, changed: int, size: int) -> tuple[tuple[str, int, int], ...]:
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                parts = member.name.removeprefix("./").split("/")
                image = member.name.lower().endswith(EXTENSIONS)
                if not member.isfile() or not image or any(map(is_hidden, parts)):
                    continue
                if member.size > _MOST_BYTES:
                    raise ValueError(f"{member.name} has {member.size:,} bytes, no image")
                found.append(("/".join(parts), member.offset_data, member.size))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: no .tar archive that can be read ({error})") from error
    return tuple(found)
