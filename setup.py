"""What setup.cfg can't say: configs/ and launch/ are installed inside the package."""

from setuptools import find_packages, setup

# Names below the package → their folders beside it, where names find them (config_files.py).
BESIDE = {"configs": "configs", "launch_scripts": "launch"}

setup(
    packages=[
        *find_packages(include=["vit_jax_xfer*"]),
        *(f"vit_jax_xfer.{name}" for name in BESIDE),
    ],
    package_dir={f"vit_jax_xfer.{name}": folder for name, folder in BESIDE.items()},
)
