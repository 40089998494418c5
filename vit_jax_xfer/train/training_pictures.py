"""Pictures while training: what the network attends to on some fixed images, beside its teacher."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.explain.attribution_sheets import AttributionSheet
from vit_jax_xfer.explain.explained_photos import Asked, Explained, Explainer, asked_method
from vit_jax_xfer.explain.image_files import find_images
from vit_jax_xfer.explain.methods.attribution import TABLE, attribute
from vit_jax_xfer.explain.pictures import to_pixels
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.tasks.task import Shown, Task, Variables
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.sharding import whole_on_host
from vit_jax_xfer.train.state import TrainState
from vit_jax_xfer.train.teacher_distance import TeacherDistance

FOLDER = "explain"  # in a run's folder


@dataclasses.dataclass(frozen=True, eq=False)
class FixedImages:
    """prepared: (B, H, W, 3) float32, as evaluations see them. names: what each is called."""

    prepared: np.ndarray
    names: tuple[str, ...]


class TrainingPictures:
    """The pictures of `config.explain`; compiled at the first, and nothing where every is 0.

    All processes gather the weights; the first draws, on its own first device. ValueError, naming
    the field, for images and methods that can't be, and for a task without what could be shown.
    """

    def __init__(self, task: Task, config: ConfigDict, inputs: Inputs) -> None:
        section = config.explain
        self._every = section.every
        if self._every < 0:
            raise ValueError(f"explain.every: got {self._every}, expected steps, or 0 for none")
        if not self._every:
            return
        if not task.trains:
            raise ValueError("explain.every: only for a run that trains a network; set it to 0")
        try:
            self._shown = task.networks_shown()
        except ValueError as error:
            raise ValueError(f"explain.every: {error}; set it to 0") from None
        if "teacher" in self._shown:
            alike = _looking_alike(self._shown["teacher"].network, self._shown["model"].network)
            self._shown["teacher"] = self._shown["teacher"]._replace(network=alike)
        chosen = next(iter(inputs.eval_sets.values()))
        self._images = fixed_images(section.images, chosen)
        normalisation = normalisation_of(chosen.pipeline)
        if normalisation is None:
            raise ValueError(f"{chosen.field}.pipeline: it normalises twice, so that no picture "
                             "can be made of its images; normalise once")  # fmt: skip
        self._pictures = [to_pixels(one, *normalisation) for one in self._images.prepared]
        self._methods = _methods(section.methods, self._shown)
        self._check(task)
        self._applied = {name: jax.jit(one.applied) for name, one in self._shown.items()}
        self._explainers: dict[str, Explainer] = {}
        self._frozen: Variables | None = None
        self._distance = self._make_distance(task)

    def due(self, step: int) -> bool:
        """Whether there is a picture of the state before a step."""
        return self._every > 0 and step % self._every == 0

    def draw(
        self,
        step: int,
        state: TrainState,
        frozen: Variables,
        folder: pathlib.Path,
        writer: MetricWriter,
    ) -> dict[str, float]:
        """Writes FOLDER/STEP.png, and the same to TensorBoard; returns the distance of a teacher.

        All processes call it; the first alone has something to return.
        """
        variables = whole_on_host(state.variables())
        if self._frozen is None:
            self._frozen = whole_on_host(frozen)
        if jax.process_index() > 0:
            return {}
        images = jax.numpy.asarray(self._images.prepared)
        given = {
            name: applied(variables, self._frozen, images)
            for name, applied in self._applied.items()
        }
        path = folder / FOLDER / f"{step}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write_sheet(path, step, given)
        png = path.read_bytes()
        writer.picture(step, FOLDER, png, _height_width(png))
        if self._distance is None:
            return {}
        return self._distance(given["model"], given["teacher"])

    def _write_sheet(
        self, path: pathlib.Path, step: int, given: dict[str, tuple[Variables, jax.Array]]
    ) -> None:
        found = {}
        for name, (variables, images) in given.items():
            if not self._methods[name]:
                continue
            if name not in self._explainers:
                network = self._shown[name].network
                self._explainers[name] = Explainer(network, variables, self._methods[name])
            found[name] = self._explainers[name].with_variables(variables)(np.asarray(images))
        own = self._explainers["model"]
        rows = AttributionSheet(own.filter_stages)
        for i, (name, picture) in enumerate(zip(self._images.names, self._pictures, strict=True)):
            rows.add(name, picture, _beside(found["model"][i], found.get("teacher"), i))
        rows.write(path, f"step {step}")

    def _make_distance(self, task: Task) -> TeacherDistance | None:
        if "teacher" not in self._shown:
            return None
        shapes = jax.eval_shape(
            lambda *given: {name: one.applied(*given)[1] for name, one in self._shown.items()},
            jax.eval_shape(task.init, jax.random.key(0)),
            task.frozen,
            self._images.prepared,
        )
        pair = [self._shown[name].network for name in ("model", "teacher")]
        distance = TeacherDistance(*pair, (shapes["model"].shape, shapes["teacher"].shape))
        for text in distance.lacking:
            say(text)
        return distance

    def _check(self, task: Task) -> None:
        """All methods on all networks, traced alone."""

        def trace(variables: Variables, frozen: Variables, images: jax.Array) -> list[Any]:
            return [
                attribute(one.network, *one.applied(variables, frozen, images), asked.name, None,
                          **dict(asked.options)).map
                for name, one in self._shown.items()
                for asked in self._methods[name]
            ]  # fmt: skip

        shapes = jax.eval_shape(task.init, jax.random.key(0))
        try:
            jax.eval_shape(trace, shapes, task.frozen, self._images.prepared)
        except ValueError as error:
            raise ValueError(f"explain.methods: {error}") from None


def fixed_images(asked: Any, chosen: Any) -> FixedImages:
    """The images of `explain.images`, prepared as the evaluation set `chosen` prepares its own.

    ValueError, naming the field, for what is no number of images, none of the set's, or no file.
    """
    prepare = data.parse_pipeline(chosen.pipeline)
    source, shape, found, names = chosen.source, chosen.image_shape(), [], []
    for one in _listed(asked, len(source)):
        try:
            if isinstance(one, int):
                example = source[one]
                name = f"image {one}"
                if 0 <= example.get("label", -1) < len(source.class_names):
                    name += f", {source.class_names[example['label']]}"
            else:
                example, name = {"image": read_photograph(one)}, one.name
        except ValueError as error:
            raise ValueError(f"explain.images: {error}") from None
        image = prepare(example, np.random.default_rng(0))["image"]
        if image.shape != shape:
            raise ValueError(
                f"explain.images: {name}: {chosen.field}.pipeline makes {image.shape} of it and "
                f"{shape} of the set's; give one of their size, or resize there"
            )
        found.append(image)
        names.append(name)
    return FixedImages(np.stack(found).astype(np.float32), tuple(names))


def _listed(asked: Any, number: int) -> list[int | pathlib.Path]:
    """Numbers of a set's images, and files."""
    if isinstance(asked, int) and not isinstance(asked, bool):
        if not 0 < asked <= number:
            raise ValueError(f"explain.images: got {asked}, expected 1 to the set's {number}")
        return [(2 * i + 1) * number // (2 * asked) for i in range(asked)]
    listed = [asked] if isinstance(asked, str) else list(asked)
    if not listed:
        raise ValueError("explain.images: none given; set explain.every=0 for no pictures")
    found: list[int | pathlib.Path] = []
    for one in listed:
        if isinstance(one, int) and not isinstance(one, bool):
            if not 0 <= one < number:
                raise ValueError(f"explain.images: {one} is none of the set's 0 to {number - 1}")
            found.append(one)
        elif isinstance(one, str):
            try:
                found += find_images([one])
            except ValueError as error:
                raise ValueError(f"explain.images: {error}") from None
        else:
            raise ValueError(f"explain.images: {one!r} is neither a number nor a file")
    return found


def _methods(asked: Any, shown: dict[str, Shown]) -> dict[str, list[Asked]]:
    """Of each network. A teacher isn't asked about classes, which are others than the model's."""
    texts = [asked] if isinstance(asked, str) else list(asked)
    if not texts:
        filters = "filter" in shown["model"].network.encoder.collections
        texts = ["gradcam" if filters else "raw_attention"]
    try:
        methods = [asked_method(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"explain.{error}") from None
    without_class = [one for one in methods if one.name in TABLE and not TABLE[one.name].of_class]
    return {name: methods if name == "model" else without_class for name in shown}


def _looking_alike(teacher: Network, student: Network) -> Network:
    """The teacher without head, read where the student is: at the class token, or at patches.

    Else the same attention would be drawn as two maps. The teacher as it is where it can't be, as
    beside a filter network.
    """
    if "attention" not in student.collections or student.pool not in ("cls", "avg", "avg_all"):
        return teacher
    if student.pool == "cls" and not teacher.class_token:
        return teacher
    norm = teacher.norm_after_pool  # where it stands in the weights
    headless = {"num_classes": 0, "distillation_head": None, "batch_norm": False}
    return teacher.clone(**headless, pool=student.pool, pool_norm=norm)


def _beside(own: Explained, teachers: Sequence[Explained] | None, i: int) -> Explained:
    """The model's maps, each with the teacher's of the same method after it, where there is one."""
    if teachers is None:
        return own
    others = {one.asked.title: one for one in teachers[i].maps}
    maps = []
    for one in own.maps:
        maps.append(one)
        if one.asked.title in others:
            other = others[one.asked.title]
            title = f"teacher's {other.asked.title}"
            maps.append(
                dataclasses.replace(other, asked=dataclasses.replace(other.asked, title=title))
            )
    return dataclasses.replace(own, maps=tuple(maps))


def _height_width(png: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return image.height, image.width
