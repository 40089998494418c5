"""What macOS, Jupyter and network drives add to the folders of a data set."""

import pathlib
import shutil


def clutter(root: pathlib.Path) -> None:
    """Puts it beside every file: "._NAME", and copies in folders that are none of the data's."""
    for file in [one for one in root.rglob("*") if one.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            folder = file.parent / name
            folder.mkdir(exist_ok=True)
            shutil.copy(file, folder / f"{file.stem}-checkpoint{file.suffix}")
            (folder / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
