"""Which class is explained: by its name or number, else the one that is predicted."""

import difflib
from typing import Any

from vit_jax_xfer.data.sources.class_match import are_numbers
from vit_jax_xfer.suites.imagenet_labels import class_names_of, names_beside


def class_number(model: Any, asked: str) -> int:
    """The number of a network's class by its name, or by that number itself.

    A name goes before a number; of ImageNet's classes WordNet's name is one too. ValueError, with
    the nearest names, where there is none such, and for a name that two classes have.
    """
    names = names_beside(class_names_of(model), [asked])
    if names.count(asked) > 1:
        places = [str(number) for number, name in enumerate(names) if name == asked]
        raise ValueError(f"class: {asked!r} is the name of {', '.join(places)}; give a number")
    if asked in names:
        return names.index(asked)
    if asked.isdecimal():
        if int(asked) < len(names):
            return int(asked)
        raise ValueError(f"class: {asked} is none of the network's 0 to {len(names) - 1}")
    if are_numbers(names):
        raise ValueError(
            f"class: {asked!r} can't be looked up, since the network doesn't say what its classes "
            f"are called; give a number, 0 to {len(names) - 1}"
        )
    near = ", ".join(map(repr, difflib.get_close_matches(asked, names, n=3, cutoff=0.0)))
    raise ValueError(f"class: {asked!r} is none of the network's {len(names)}; near are {near}")
