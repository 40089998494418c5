"""Every module of the package can be imported with all others in one process."""

import importlib
import pkgutil

import vit_jax_xfer


def test_every_module_is_imported_beside_the_others():
    found = pkgutil.walk_packages(vit_jax_xfer.__path__, "vit_jax_xfer.")
    names = [module.name for module in found if not module.name.endswith(".__main__")]
    for name in names:
        importlib.import_module(name)
    # Commands among them, which share the flag --config.
    assert {"vit_jax_xfer.main", "vit_jax_xfer.plan", "vit_jax_xfer.convert"} < set(names)
