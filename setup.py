"""What setup.cfg can't say: configs/ is installed inside the package, where names find it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vit_jax_xfer*"]), "vit_jax_xfer.configs"],
    package_dir={"vit_jax_xfer.configs": "configs"},
)
