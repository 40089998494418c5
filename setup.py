"""What setup.cfg can't say: configs/ and launch/ are inside the package; README as PyPI has it."""

import configparser
import pathlib
import re

from setuptools import find_packages, setup

# Names below the package → their folders beside it, where names find them (config_files.py).
BESIDE = {"configs": "configs", "launch_scripts": "launch"}
# A link or a picture of Markdown whose target is a file of the repository.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def long_description(text: str, address: str) -> str:
    """README as a page elsewhere has it: links and pictures by the repository's address.

    address: setup.cfg's url, "" while there is none: pictures are then left out, and of a link its
    text stays.
    """

    def whole(match: re.Match[str]) -> str:
        picture, words, path = match.groups()
        if not address:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({address.rstrip('/')}/{kind}/HEAD/{path})"

    return _RELATIVE.sub(whole, text)


def published_readme(folder: pathlib.Path) -> str:
    """The README of a checkout, by the url of its setup.cfg."""
    config = configparser.ConfigParser()
    config.read(folder / "setup.cfg", encoding="utf-8")
    text = (folder / "README.md").read_text(encoding="utf-8")
    return long_description(text, config.get("metadata", "url", fallback=""))


if __name__ == "__main__":
    setup(
        long_description=published_readme(pathlib.Path(__file__).parent),
        long_description_content_type="text/markdown",
        packages=[
            *find_packages(include=["vit_jax_xfer*"]),
            *(f"vit_jax_xfer.{name}" for name in BESIDE),
        ],
        package_dir={f"vit_jax_xfer.{name}": folder for name, folder in BESIDE.items()},
    )
