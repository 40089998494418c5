"""A network that is watched while it runs: what it computes on the way, and the score's derivative.

Interceptors of Flax stand around the methods of its modules, so that the network itself knows of
nothing. What they note is in the collection `watched`, what they add in `given`; both are scanned
over layers, and survive rematerialisation.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.unread_tokens import leave_out_unread
from vit_jax_xfer.models import collections
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.windows import map_from_windows
from vit_jax_xfer.models.vit import VisionTransformer

# (next function, its arguments, its keywords, context) → result, as flax.linen.intercept_methods
# takes it.
Interceptor = Callable[..., Any]
# Whether a module's method gives what is asked for.
Place = Callable[[nn.Module, str], bool]
Tree = Mapping[str, Any]


@flax.struct.dataclass
class Watched:
    """One pass: logits (B, K) or None, the classes (B,) that are explained, and what was noted.

    values: trees of arrays by module, "map" (B, H, T, S) for attention and "value" for places.
    gradients: of the sum of the explained classes' logits, in the same trees; {} where unasked.
    inputs: the derivative by the images, (B, H, W, C), None where unasked.
    kept: what filter stages chose, (B, K) by stage.
    """

    logits: jax.Array | None
    target: jax.Array | None
    values: Tree
    gradients: Tree
    inputs: jax.Array | None = None
    kept: Mapping[str, jax.Array] = flax.struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class WatchedNetwork:
    """A network with its variables, opened by `open_network`."""

    model: nn.Module
    variables: Any

    @property
    def is_transformer(self) -> bool:
        """Whether all its tokens attend in all its blocks, on one grid."""
        return isinstance(self.model, VisionTransformer)

    @property
    def is_filter(self) -> bool:
        """Whether its blocks attend on maps of several sizes."""
        return isinstance(self.model, FilterViT)

    def layer(self, option: str, layer: int) -> int:
        """A block or stage by its number, of which negatives count from the end."""
        depth = self.model.depth
        if not -depth <= layer < depth:
            raise ValueError(f"{option}: {layer} is not a layer of a network of depth {depth}")
        return layer % depth

    def logits(self, images: jax.Array, interceptors: Sequence[Interceptor] = ()) -> Any:
        """(B, K) float32, None for a network without a head."""
        return self.run(images, {}, interceptors)[0]

    def chosen(self, logits: jax.Array | None, target: jax.Array | None) -> jax.Array | None:
        """The classes (B,) that are explained: those asked for, else those predicted."""
        if logits is None:
            return target
        if target is None:
            return logits.argmax(axis=-1).astype(jnp.int32)
        return jnp.broadcast_to(jnp.asarray(target, jnp.int32), logits.shape[:1])

    def scores(self, logits: jax.Array, target: jax.Array) -> jax.Array:
        """The explained class's logit of each image, (B,)."""
        return jnp.take_along_axis(logits, target[:, None], axis=1)[:, 0]

    def watch(
        self,
        images: jax.Array,
        target: jax.Array | None = None,
        *,
        maps: bool = True,
        place: Place | None = None,
        gradients: bool = True,
        inputs: bool = False,
        interceptors: Sequence[Interceptor] = (),
    ) -> Watched:
        """A pass with all maps noted, and the outputs of `place`; then the score's derivatives.

        inputs: also the derivative by the images.
        interceptors: stand inside those that note, so that derivatives are those which they make.
        """
        around = (*interceptors, note(maps, place))
        if place is None and not interceptors:
            around = (*leave_out_unread(self.model), *around)
        show = ("attention",) if maps or interceptors else ()  # rules stand at maps too

        def run(offsets: Tree, images: jax.Array) -> tuple[jax.Array | None, Tree]:
            return self.run(images, offsets, around, show)

        if not gradients:
            logits, found = run({}, images)
            return self._watched(images, logits, self.chosen(logits, target), found, {}, None)

        def score(offsets: Tree, images: jax.Array) -> tuple[jax.Array, Any]:
            logits, found = run(offsets, images)
            chosen = self.chosen(logits, target)
            return self.scores(logits, chosen).sum(), (logits, chosen, found)

        _, shapes = jax.eval_shape(run, {}, images)
        zeros = as_offsets(shapes.get("watched", {}))
        by = (0, 1) if inputs else (0,)
        (slopes, *rest), seen = jax.grad(score, by, has_aux=True)(zeros, images)
        by_images = rest[0] if inputs else None
        return self._watched(images, *seen, as_values(slopes), by_images)

    def _watched(
        self,
        images: jax.Array,
        logits: Any,
        target: Any,
        found: Tree,
        gradients: Tree,
        by_images: jax.Array | None,
    ) -> Watched:
        kept = {name: stage["kept"] for name, stage in found.get("filter", {}).items()}
        values = self.whole_maps(images, found.get("watched", {}))
        slopes = self.whole_maps(images, gradients)
        return Watched(logits, target, values, slopes, by_images, kept)

    def whole_maps(self, images: jax.Array, tree: Tree) -> Tree:
        """A tree with maps within windows as maps of all tokens (`map_from_windows`)."""
        if not (self.is_transformer and self.model.windowed):
            return tree
        size = self.model.window_size
        spread = partial(map_from_windows, grid=self.model.grid_in(images.shape), size=size)
        whole = dict(tree)
        for name, block in tree.items():
            if name == "blocks":  # scanned, and alike
                change = jax.vmap(spread)
            elif name.startswith("blocks_") and self.model.window_of(int(name[7:])):
                change = spread
            else:
                continue
            if "map" in block.get("attention", {}):
                attention = {**block["attention"], "map": change(block["attention"]["map"])}
                whole[name] = {**block, "attention": attention}
        return whole

    def run(
        self,
        inputs: jax.Array,
        offsets: Tree,
        interceptors: Sequence[Interceptor],
        show: Sequence[str] = (),
        method: str = "forward",
    ) -> tuple[jax.Array | None, Tree]:
        """Logits, and the collections that were written, `watched` and those of `show`."""
        variables = dict(self.variables)
        if offsets:
            variables["given"] = _merge(variables.get("given", {}), offsets)
        # A filter network that shows its choices runs as one, not part after part of the batch.
        mutable = ["watched", *show, *(["filter"] if self.is_filter else [])]
        ours = isinstance(self.model, Network)
        with contextlib.ExitStack() as stack:
            for interceptor in reversed(interceptors):
                stack.enter_context(nn.intercept_methods(interceptor))
            out, found = self.model.apply(
                variables, inputs, mutable=mutable, method=method if ours else None
            )
        return (out.logits if ours else out), found


def open_network(model: nn.Module, variables: Any) -> WatchedNetwork:
    """The network, ready to be watched: in float32 at least, with choices that stay.

    Products are in that type too, and by whatever kernel takes it. A MaskedAutoencoder stands for
    its encoder. ValueError for a network that sees more than images.
    """
    if not isinstance(model, Network):
        return WatchedNetwork(model, variables)
    model, variables = encoder_of(model, variables)
    if not isinstance(model, VisionTransformer | FilterViT):
        raise ValueError(
            f"model: a {type(model).__name__} takes more than images; explain a "
            "VisionTransformer, a FilterViT, or a flax module (images → logits)"
        )
    dtype = jnp.promote_types(model.dtype, jnp.float32)
    exact = {"dtype": dtype, "product_dtype": None, "attention": "auto"}
    return WatchedNetwork(model.with_fields(**exact, random_evaluation=False), variables)


def block_maps(tree: Tree, layers: Sequence[int]) -> list[jax.Array]:
    """Of these blocks of a transformer what `Watched` has of their maps: (B, H, T, T)."""
    return collections.layer_values(tree, ("attention", "map"), layers)


def pool_map(tree: Tree) -> jax.Array | None:
    """Of attention pooling what `Watched` has of its map, (B, H, 1, T); None without one."""
    return tree["attention_pool"]["map"] if "attention_pool" in tree else None


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], jax.Array]]:
    """(path, array) of a tree of `Watched`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def note(maps: bool, place: Place | None) -> Interceptor:
    """Notes maps and the outputs of a place, each with what `given` adds to it."""

    def interceptor(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        if maps and method == "apply_map":
            return next_fun(noted(module, "map", args[0]), *args[1:])
        out = next_fun(*args, **kwargs)
        if not place or not place(module, method):
            return out
        if not isinstance(out, jax.Array):
            raise ValueError(f"layer: {'/'.join(module.path)!r} gives more than one array")
        return noted(module, "value", out)

    return interceptor


def noted(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
    """The value, noted, with what `given` adds to it."""
    collections.emit(module, "watched", **{name: value})
    offset = collections.given(module, (f"{name}_offset",)).get(f"{name}_offset")
    return value if offset is None else value + offset


def as_offsets(tree: Tree) -> dict[str, Any]:
    """Zeros of the shapes of what was noted, by the names under which they are added to it."""
    return _renamed(tree, lambda name: f"{name}_offset", lambda x: jnp.zeros(x.shape, x.dtype))


def as_values(tree: Tree) -> dict[str, Any]:
    """The derivatives by offsets, by the names of what they were added to."""
    return _renamed(tree, lambda name: name.removesuffix("_offset"), lambda x: x)


def _renamed(tree: Tree, rename: Callable[[str], str], change: Callable[[Any], Any]) -> Any:
    return {
        name if isinstance(value, Mapping) else rename(name): _renamed(value, rename, change)
        if isinstance(value, Mapping)
        else change(value)
        for name, value in tree.items()
    }


def _merge(tree: Tree, other: Tree) -> dict[str, Any]:
    """Both trees in one; they have no array in common."""
    merged = dict(tree)
    for name, value in other.items():
        both = isinstance(value, Mapping) and name in merged
        merged[name] = _merge(merged[name], value) if both else value
    return merged
