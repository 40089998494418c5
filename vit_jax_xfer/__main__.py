"""python -m vit_jax_xfer COMMAND …: every command by its name (front_door.py)."""

import sys

from vit_jax_xfer.front_door import main

if __name__ == "__main__":
    sys.exit(main())
