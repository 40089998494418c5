"""The training state, how it starts on the mesh, and one step of it."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from optax.microbatching import reshape_batch_axis

from vit_jax_xfer.models.batch_norm import statistics_held
from vit_jax_xfer.tasks.task import Aux, Batch, Task, Variables
from vit_jax_xfer.train.average_decay import ema_decay_at
from vit_jax_xfer.train.rules import named_leaves
from vit_jax_xfer.train.sharding import param_shardings, replicated

PyTree = Any
# (batch, key) → batch: images of the whole batch blended, and their labels then shares of classes,
# (B, K), which every loss takes. It runs in the jitted step, so that any mesh gives the same.
Mixing = Callable[[Batch, jax.Array], Batch]
# Tells the mixing's random numbers from those of the batch's parts, which count from 0.
_MIXING = 2**32 - 1


@flax.struct.dataclass
class TrainState:
    """All that a step changes; a checkpoint holds just this.

    step: () int32, the number of steps taken. collections: what the network keeps beside its
    parameters. ema, ema_collections: averages of both over the steps, {} where the run keeps none.
    """

    step: jax.Array
    params: PyTree
    collections: Variables
    opt_state: optax.OptState
    ema: PyTree
    ema_collections: Variables

    def variables(self, ema: bool = False) -> Variables:
        """What the network is applied with, or the averages of it."""
        if ema:
            return {"params": self.ema, **self.ema_collections}
        return {"params": self.params, **self.collections}


Step = Callable[[TrainState, Variables, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def new_state(variables: Variables, tx: optax.GradientTransformation, ema: bool) -> TrainState:
    """The state before the first step."""
    variables = dict(variables)
    params = variables.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=variables,
        opt_state=tx.init(params),
        # A copy: the same buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        ema_collections=jax.tree.map(jnp.copy, variables) if ema else {},
    )


def state_shardings(
    shapes: TrainState, tx: optax.GradientTransformation, mesh: Mesh, min_elements: int
) -> TrainState:
    """Shardings of a whole state: moments and averages lie where their parameters do."""
    params = param_shardings(shapes.params, mesh, min_elements)

    def masked(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    opt_state = optax.tree.map_params(
        tx,
        lambda leaf, sharding: leaf if masked(leaf) else sharding,
        shapes.opt_state,
        params,
        transform_non_params=lambda _: replicated(mesh),
        is_leaf=masked,
    )
    collections = param_shardings(shapes.collections, mesh, min_elements)
    return TrainState(
        step=replicated(mesh),
        params=params,
        collections=collections,
        opt_state=opt_state,
        ema=params if shapes.ema else {},
        ema_collections=collections if shapes.ema_collections else {},
    )


def step_key(seed: int) -> np.ndarray:
    """What the randomness of a run's steps comes of: numbers of a key, uint32, on the host."""
    return np.asarray(jax.random.key_data(jax.random.key(seed)))


def make_train_step(
    task: Task,
    tx: optax.GradientTransformation,
    frozen_params: PyTree,
    *,
    ema_decay: float,
    accumulate: int,
    skip_nonfinite: bool = False,
    mix: Mixing | None = None,
    ema_start: str = "fixed",
    split: tuple[PyTree, PyTree] | None = None,
) -> Step:
    """A step (state, frozen, batch, key) → (state, metrics).

    key: of the run, (2,) uint32 (`step_key`); all randomness comes of it and of the step's number.
    It is an argument, so that runs with other seeds are the same program.

    frozen_params: a tree of bools, True for parameters that get no gradient; a batch norm of which
    all are such keeps its running statistics, and normalises by them. ema_decay: 0 keeps no
    average; ema_start: how it begins, see `ema_decay_at`. accumulate: the batch goes through in
    this many parts, whose gradients are averaged.
    skip_nonfinite: where a step would give a loss or a state that is not finite, the state stays as
    it is, but for its step, and the metric "skipped" is 1. mix: changes the whole batch before
    anything sees it. split: shardings of the parameters and of what is frozen where they are split
    over devices (fsdp): each part gathers them for itself, and none is whole on a device from one
    part to the next.
    """

    parts = [(name.rpartition("/")[0], still) for name, still in named_leaves(frozen_params)]
    standing = {part for part, _ in parts} - {part for part, still in parts if not still}

    def loss_fn(
        params: PyTree,
        collections: Variables,
        frozen: Variables,
        batch: Batch,
        key: jax.Array,
        numbers: Variables,
    ) -> tuple[jax.Array, Aux]:
        params = jax.tree.map(
            lambda param, still: jax.lax.stop_gradient(param) if still else param,
            params,
            frozen_params,
        )
        with statistics_held(lambda path: "/".join(path) in standing):
            variables = {"params": params, **collections}
            if not numbers:
                return task.loss(variables, frozen, batch, key)
            return task.loss_of_part(variables, frozen, batch, key, numbers)

    def step(
        state: TrainState, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)
        if mix is not None:
            batch = mix(batch, jax.random.fold_in(key, _MIXING))
        if accumulate == 1:
            arrays = state.params, state.collections, frozen
            (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(*arrays, batch, key, {})
        else:
            loss, aux, grads = _accumulated(loss_fn, accumulate, state, frozen, batch, key, split)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        collections = {**state.collections, **aux.updates}
        ema, ema_collections = state.ema, state.ema_collections
        if ema_decay:
            averages = (ema, ema_collections)
            newest = (params, collections)
            decay = ema_decay_at(state.step + 1, ema_decay, ema_start)
            ema, ema_collections = _averaged(newest, averages, decay)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **aux.metrics}
        new = TrainState(state.step + 1, params, collections, opt_state, ema, ema_collections)
        if skip_nonfinite:
            good = _all_finite((loss, new))
            new, metrics = _chosen(good, new, state), {**metrics, "skipped": 1 - good}
        return new, metrics

    return step


def _averaged(newest: PyTree, averages: PyTree, decay: float | jax.Array) -> PyTree:
    """Moving averages a step later.

    By the distance, so that what stands still, as what is frozen, is its own average to the bit: a
    decay and 1 minus it, each rounded, don't sum to 1, and the average would drift.
    """
    return jax.tree.map(lambda new, old: new + decay * (old - new), newest, averages)


def _all_finite(tree: PyTree) -> jax.Array:
    """() int32: 1 where every number of a tree is finite, else 0."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.array([jnp.isfinite(x).all() for x in floats]).all().astype(jnp.int32)


def _chosen(good: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """The new state where it is good, else the old one: later by a step, as the data is."""

    def counts_steps(node: Any) -> bool:
        # The learning rate goes by the step; the moments count what was added to them.
        return isinstance(node, optax.ScaleByScheduleState)

    def one(new: Any, old: Any) -> Any:
        return new if counts_steps(new) else jnp.where(good, new, old)

    return jax.tree.map(one, new, old, is_leaf=counts_steps).replace(step=new.step)


def _accumulated(
    loss_fn: Callable[..., tuple[jax.Array, Aux]],
    parts: int,
    state: TrainState,
    frozen: Variables,
    batch: Batch,
    key: jax.Array,
    split: tuple[PyTree, PyTree] | None,
) -> tuple[jax.Array, Aux, PyTree]:
    """Loss, metrics and gradient averaged over `parts` of the batch, one after the other."""
    # Strided parts, so that each device keeps its own rows and no batch is gathered.
    batches = jax.tree.map(lambda x: reshape_batch_axis(x, x.shape[0] // parts), batch)
    rows = jnp.arange(parts), batches

    def arrays_of(index: jax.Array) -> tuple[PyTree, Variables, jax.Array]:
        """Parameters and what is frozen as a part takes them, and its key."""
        arrays = state.params, frozen
        if split is not None:
            # Split within the loop, and tied to what changes from part to part: XLA would else
            # gather them before the loop and keep them whole through it, which is the memory that
            # fsdp is there to save. A barrier would not do, which its CPU compiler takes away.
            arrays = jax.lax.with_sharding_constraint(arrays, split)
            arrays = jax.tree.map(lambda x: jnp.where(index < parts, x, jnp.zeros_like(x)), arrays)
            arrays = jax.lax.with_sharding_constraint(arrays, split)
        return *arrays, jax.random.fold_in(key, index)

    def part(
        numbers: Variables, collections: Variables, inputs: tuple[jax.Array, Batch]
    ) -> tuple[Variables, Any]:
        params, still, part_key = arrays_of(inputs[0])
        arrays = params, collections, still, inputs[1], part_key, numbers
        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(*arrays)
        return {**collections, **aux.updates}, (loss, aux.metrics, grads, aux.numbers)

    def counted(nothing: tuple, inputs: tuple[jax.Array, Batch]) -> tuple[tuple, Variables]:
        """Over how many things a part's means are; of its loss the compiler keeps that alone."""
        params, still, part_key = arrays_of(inputs[0])
        arrays = params, state.collections, still, inputs[1], part_key
        return nothing, loss_fn(*arrays, {})[1].numbers

    first = jax.tree.map(lambda x: x[0], rows)
    shapes = jax.eval_shape(functools.partial(part, {}), state.collections, first)[1]
    numbers: Variables = {}
    if shapes[-1]:  # means over pixels or boxes, of which one part has more than another
        _, numbers = _summed(counted, (), rows, shapes[-1])
        numbers = jax.tree.map(lambda number: jnp.maximum(number, 1.0) / parts, numbers)
    collections, total = _summed(functools.partial(part, numbers), state.collections, rows, shapes)
    loss, metrics, grads, _ = jax.tree.map(lambda value: value / parts, total)
    return loss, Aux(metrics, collections), grads


def _summed(
    part: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    rows: PyTree,
    shapes: PyTree,
) -> tuple[PyTree, PyTree]:
    """What a part of a batch hands to the next, at the end, and the sum of what they give.

    rows: of each part, one after the other. shapes: of what a part gives.
    """

    def body(carried: Any, inputs: Any) -> tuple[Any, None]:
        carry, total = carried
        carry, values = part(carry, inputs)
        return (carry, jax.tree.map(jnp.add, total, values)), None

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(body, (carry, zeros), rows)[0]
