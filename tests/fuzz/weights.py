"""Weight files, model folders and checkpoints that are bad."""

import functools
import importlib
import io
import json
import pathlib
import pickle
import shutil
import struct
import tempfile
import zlib

import numpy as np

from tests.fuzz.mutations import mutated_bytes, mutated_json
from tests.pretrained.torch_archive import mapping, storage, tensor, write
from vit_jax_xfer.data.sources import open_source
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.read_files import read_checkpoint
from vit_jax_xfer.storage.checkpoint_model import load_checkpoint_model, locate_model

Rng = np.random.Generator
_BLOCK = 2**24
ARRAYS = {
    "cls_token": np.ones((1, 1, 16), np.float32),
    "head.weight": np.ones((10, 16), np.float32),
    "step": np.array(3),
}
RAN = pathlib.Path(tempfile.gettempdir()) / "fuzz_ran_code"


class _Code:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self):
        return (pathlib.Path.touch, (RAN,))


def npz(folder: pathlib.Path, rng: Rng) -> None:
    """Weights as .npz; among them pickles and archives that unpack to gigabytes."""
    file = folder / "weights.npz"
    kind = rng.random()
    if kind < 0.1:
        np.savez(file, **ARRAYS, bad=np.array([_Code()], object))
    elif kind < 0.15:
        _bomb(file, "w.npy", shape=(2**29 + 2**28,))
    else:
        written = io.BytesIO()
        np.savez_compressed(written, **ARRAYS) if kind < 0.5 else np.savez(written, **ARRAYS)
        file.write_bytes(mutated_bytes(rng, written.getvalue()))
    _read_all(file)


def image_npz(folder: pathlib.Path, rng: Rng) -> None:
    """A data set of images as .npz."""
    file = folder / "data.npz"
    kind = rng.random()
    images = np.zeros((6, 8, 8, 3), np.uint8)
    if kind < 0.1:
        np.savez(file, train_images=images, train_labels=np.array([_Code()] * 6, object))
    elif kind < 0.15:
        _bomb(file, "train_images.npy", shape=(2**28, 2, 2, 3), dtype="|u1")
    else:
        written = io.BytesIO()
        np.savez_compressed(written, train_images=images, train_labels=np.arange(6))
        file.write_bytes(mutated_bytes(rng, written.getvalue()))
    source = open_source(f"npz:{file}", "train")
    assert source[0]["image"].dtype == np.uint8 and len(source.labels()) == len(source)


def safetensors(folder: pathlib.Path, rng: Rng) -> None:
    """Weights as .safetensors: a head of JSON before the data."""
    from safetensors.numpy import save

    data = save(ARRAYS)
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.5:
        head = mutated_json(rng, json.loads(data[8 : 8 + size])).encode("utf-8", "surrogatepass")
        data = len(head).to_bytes(8, "little") + head + data[8 + size :]
    else:
        data = mutated_bytes(rng, data)
    file = folder / "weights.safetensors"
    file.write_bytes(data)
    _read_all(file)


# What a file may say of an array's shape, strides and place, and of a storage's length.
SIZES = (0, 1, 2, 3, 16, 160, -1, 255, 2**31, 2**40, 2**63 - 1, 2**64, -(2**31))


def pth(folder: pathlib.Path, rng: Rng) -> None:
    """PyTorch's files: archives and plain pickles, with code in them or not, and lies on sizes."""
    import torch

    file = folder / "weights.pth"
    kind = rng.random()
    if kind < 0.05:
        file.write_bytes(pickle.dumps({"model": _Code()}))
    elif kind < 0.4:
        _lies(file, rng)
    elif kind < 0.7:
        # The pickle alone, because a checksum guards it in a whole archive.
        content = mapping({name: _whole(array) for name, array in ARRAYS.items()})
        storages = {"0": ARRAYS["head.weight"].tobytes()}
        write(file, mutated_bytes(rng, mapping({"model": content})), storages)
    else:
        written = io.BytesIO()
        state = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
        extra = {"args": _Code()} if kind < 0.8 else {}
        zipped = bool(rng.random() < 0.5)
        torch.save({"model": state, **extra}, written, _use_new_zipfile_serialization=zipped)
        data = written.getvalue()
        file.write_bytes(data if extra else mutated_bytes(rng, data))
    _read_all(file)


def _whole(array: np.ndarray) -> bytes:
    return tensor(array.shape, stored=storage(ARRAYS["head.weight"].size))


def _lies(file: pathlib.Path, rng: Rng) -> None:
    """An archive whose tensor may lie anywhere, have any shape, and be of any type."""
    kinds = ("FloatStorage", "BFloat16Storage", "LongStorage", "UntypedStorage", "QInt8Storage")
    sizes = [int(rng.choice(np.array(SIZES, object))) for _ in range(6)]
    count = int(rng.choice(np.array([160, *SIZES], object)))
    stored = storage(count, str(rng.integers(2)), kinds[rng.integers(len(kinds))])
    array = tensor(tuple(sizes[:2]), tuple(sizes[2:4]), max(0, sizes[4]), stored)
    order = (b"little", b"big", b"")[rng.integers(3)]
    write(file, mapping({"w": array}), {"0": ARRAYS["head.weight"].tobytes()}, byteorder=order)


def msgpack(folder: pathlib.Path, rng: Rng) -> None:
    """Flax's files."""
    import flax

    data = flax.serialization.to_bytes({"params": {"a": dict(ARRAYS)}, "step": 3})
    (folder / "flax_model.msgpack").write_bytes(mutated_bytes(rng, data))
    _read_all(folder / "flax_model.msgpack")


@functools.cache
def _orbax_folder() -> pathlib.Path:
    """A tree of Orbax, each array apart, written once."""
    import orbax.checkpoint as ocp

    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz.")) / "tree"
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(folder, {"params": dict(ARRAYS)})
    return folder


def orbax_folder(folder: pathlib.Path, rng: Rng) -> None:
    """A folder of Orbax: its description, zarr's, and the chunks."""
    path = pathlib.Path(shutil.copytree(_orbax_folder(), folder / "tree"))
    _spoil(path, rng)
    _read_all(path)


def shards(folder: pathlib.Path, rng: Rng) -> None:
    """An index of shards that names files."""
    from safetensors.numpy import save_file

    save_file(ARRAYS, folder / "a.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(ARRAYS, "a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(mutated_json(rng, index))
    (folder / "config.json").write_text(mutated_json(rng, {"model_type": "vit", "layers": [1, 2]}))
    _read_all(folder)


@functools.cache
def _model_folder() -> pathlib.Path:
    """A model folder of one small network, written once."""
    import jax

    import vit_jax_xfer as vjx

    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz."))
    fields = {"width": 8, "depth": 1, "num_heads": 1, "image_size": 8, "num_classes": 3}
    model = vjx.create_model("vit_micro_patch4", **fields)
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    vjx.save(folder / "model", model, jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes))
    return folder / "model"


def model_folder(folder: pathlib.Path, rng: Rng) -> None:
    """A model folder of this project: its description, checksums and arrays."""
    path = pathlib.Path(shutil.copytree(_model_folder(), folder / "model"))
    _spoil(path, rng)
    load_pretrained(path)


def saved_file(folder: pathlib.Path, rng: Rng) -> None:
    """A model of this project in one file, with another description."""
    from safetensors.numpy import save_file

    arrays = {"params/head/kernel": np.ones((8, 3), np.float32)}
    written = (_model_folder() / "model.json").read_text()
    description = mutated_json(rng, json.loads(written))
    if rng.random() < 0.5:
        file = folder / "model.npz"
        np.savez(file, **arrays, vit_jax_xfer=np.array(description))
    else:
        file = folder / "model.safetensors"
        save_file(arrays, file, {"vit_jax_xfer": description})
    load_pretrained(file)


@functools.cache
def _checkpoint() -> pathlib.Path:
    """A run's checkpoint, written once."""
    import jax.numpy as jnp

    from vit_jax_xfer.storage.checkpoints import Checkpoints

    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz."))
    description = json.loads((_model_folder() / "model.json").read_text())
    state = {"params": {"head": {"kernel": jnp.ones((4, 3))}}, "step": jnp.int32(2)}
    extra = {"clock": {"elapsed": 1.0, "step": 2}, "teacher": "x", "model": description}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(2, state, extra)
    return folder / "2"


def checkpoint(folder: pathlib.Path, rng: Rng) -> None:
    """A checkpoint of a run, as a model and as what a run goes on from."""
    import jax
    import jax.numpy as jnp

    from vit_jax_xfer.storage.checkpoints import Checkpoints

    path = pathlib.Path(shutil.copytree(_checkpoint(), folder / "2"))
    _spoil(path, rng)
    if rng.random() < 0.5:
        found = locate_model(path)
        if found is not None:
            load_checkpoint_model(found)
        return
    place = jnp.ones(1).sharding
    shapes = {"params": {"head": {"kernel": (4, 3)}}, "step": ()}
    types = {(4, 3): jnp.float32, (): jnp.int32}
    wanted = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, types[shape], sharding=place),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest_step() is not None:
            checkpoints.restore(wanted)


def _spoil(folder: pathlib.Path, rng: Rng) -> None:
    """Makes one file bad: JSON by its values, all else by its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[rng.integers(len(files))]
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        value = None
    if isinstance(value, dict) and value and rng.random() < 0.7:
        file.write_text(mutated_json(rng, value))
    else:
        file.write_bytes(mutated_bytes(rng, file.read_bytes()))


def _read_all(path: pathlib.Path) -> None:
    """Every array of a source; nothing in it may have run."""
    RAN.unlink(missing_ok=True)
    try:
        state = read_checkpoint(path).state
        for name in state:
            assert isinstance(state[name], np.ndarray)
    finally:
        assert not RAN.exists(), "code in the file was run"


def _bomb(file: pathlib.Path, name: str, shape: tuple[int, ...], dtype: str = "<f4") -> None:
    """A few kilobytes of .npz that unpack to gigabytes of zeros.

    By hand, because to pack so much takes seconds: of one packed block a thousand copies.
    """
    header = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    length = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, block = (
        packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
        for data in (header.getvalue(), bytes(_BLOCK))
    )
    data = first + block * (length // _BLOCK) + packer.flush()
    sizes = (0, len(data), len(header.getvalue()) + length, len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, *sizes) + name.encode()
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, 0, 0, 0, 0, 0)
    central += name.encode()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    file.write_bytes(local + data + central + end)


# What takes time the first time a reader is called.
PREPARED = {
    "pth": functools.partial(importlib.import_module, "torch"),
    "orbax_folder": _orbax_folder,
    "saved_file": _model_folder,
    "model_folder": _model_folder,
    "checkpoint": _checkpoint,
}
WEIGHTS = {
    "npz": npz,
    "image_npz": image_npz,
    "safetensors": safetensors,
    "pth": pth,
    "msgpack": msgpack,
    "orbax_folder": orbax_folder,
    "shards": shards,
    "saved_file": saved_file,
    "model_folder": model_folder,
    "checkpoint": checkpoint,
}
