"""What the configs of FilterViT, DropoutViT and of a filter with a teacher have in common."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.recipes import train_filter_vit, train_filter_vit_on_1k
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_filter_variant


def filter_config(
    arg: str | None, kind: str, sizes: Sequence[str], task: str = "classification"
) -> ConfigDict:
    """The published training (2410.22709) of a size, xs where none is named, or a small variant's.

    arg: of the config, a size or a variant, with subset=N (0 = all of ImageNet), labels=N, seed=N.
    kind: how the networks' names begin. ValueError for an argument that it doesn't know.
    """
    only = {"subset": ("", *sizes)}
    name, numbers = parse_arg(arg, (*sizes, *VARIANTS), only, subset=1, labels=0, seed=0)
    subset = numbers.pop("subset")
    size = "micro" if name in VARIANTS else name or "xs"
    config = default_config(task, f"{kind}_{size}", settings={})
    train_filter_vit(config)
    if "teacher" in config.task:
        config.task.teacher = "hf:facebook/dinov2-small"
    if name in VARIANTS:
        use_filter_variant(config, name, **numbers)
        return config
    config.seed, config.data.per_class = numbers["seed"], numbers["labels"]
    if numbers["labels"]:  # another seed labels other images, as in the small variants
        config.data.subset_seed = numbers["seed"]
    if not subset:
        train_filter_vit_on_1k(config)
    else:
        config.data.classes = f"imagenet100/{subset}"
    return config
