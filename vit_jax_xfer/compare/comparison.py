"""A comparison: arms × seeds on the same images, and the config of each of its runs."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator

from ml_collections import ConfigDict

from vit_jax_xfer.command_line.config_flag import set_fields
from vit_jax_xfer.compare.arms import Arm, arm_named
from vit_jax_xfer.experiments.config_files import load_config
from vit_jax_xfer.experiments.run_length import set_length
from vit_jax_xfer.experiments.variants import VARIANTS
from vit_jax_xfer.tasks.registration import check_unused, has_use_for

CURVE_POINTS = 5  # evaluations in a run of one's own images, the last one included
_LOGGED = 40  # rows of training metrics, about
# Parts of the form, and the flags behind them.
_FLAGS = {"path": "data", "labels": "labels", "size": "size", "teacher": "teacher"}
_OF_FLAG = re.compile(
    rf"(?:config argument ({'|'.join(_FLAGS)})=[^:]*|task\.teacher|init_from|model\.like): "
)


@dataclasses.dataclass(frozen=True)
class ComparedImages:
    """The images of all arms. source: a small variant by name, or a folder.

    labels: labelled images a class, which the seed chooses; 0 = all. size: pixels, 0 = as the
    configs have it; of a folder alone.
    """

    source: str
    labels: int = 0
    size: int = 0

    @property
    def is_variant(self) -> bool:
        """Whether the images, and so the networks, are those of a small variant."""
        return self.source in VARIANTS

    def argument(self, arm: Arm, seed: int, teacher: str) -> str:
        """What stands behind the colon of an arm's config. ValueError for a size of a variant."""
        if self.is_variant:
            if self.size:
                raise ValueError(f"--image-size: {self.source} has a size of its own; leave it out")
            chosen = f",labels={self.labels},seed={seed}" if arm.name != "ensemble" else ""
            return f"{self.source}{chosen}"
        parts = ["folder", f"path={_quoted(self.source)}"]
        if self.size:
            parts.append(f"size={self.size}")
        if arm.name != "ensemble":
            # Images are prepared as the teacher's, whichever weights an arm learns from.
            teaching = "like" if arm.name == "scratch" else "teacher"
            parts += [f"labels={self.labels}", f"seed={seed}", f"{teaching}={_quoted(teacher)}"]
        return ",".join(parts)


def _quoted(path: str) -> str:
    """A path as the form takes it, in quotes where it has a comma or quotes itself."""
    if not set(path) & set(",'\""):
        return path
    return f"'{path}'" if "'" not in path else f'"{path}"'


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Arms, each trained once a seed, with their runs in folders of `root`.

    steps: of each training, 0 = as the configs have it. fields: "FIELD=VALUE" of all arms' configs.
    """

    root: pathlib.Path
    arms: tuple[Arm, ...]
    seeds: int
    images: ComparedImages
    teacher: str
    steps: int = 0
    fields: tuple[str, ...] = ()

    def runs(self) -> Iterator[tuple[Arm, int]]:
        """Arm and seed of every run in their order: all arms of a seed, then of the next."""
        return ((arm, seed) for seed in range(self.seeds) for arm in self.arms)

    def form(self, arm: Arm, seed: int) -> str:
        """A run's config as --config takes it."""
        return f"{arm.kind.config}:{self.images.argument(arm, seed, self.teacher)}"

    def config(self, arm: Arm, seed: int) -> ConfigDict:
        """The config of a run. ValueError, naming the flag, or the arm of a field that it lacks."""
        try:
            argument = self.images.argument(arm, seed, self.teacher)
            config = load_config(arm.kind.config, argument)
        except ValueError as error:
            raise ValueError(_with_flag(str(error))) from None
        if arm.name == "ensemble":
            self._use_members(config, arm, seed)
        else:
            if arm.kind.teacher:
                config.update_from_flattened_dict({arm.kind.teacher: self._teacher_of(arm, seed)})
            if not self.images.is_variant:
                _use_steps(config, self.steps or config.steps)
            elif self.steps:
                set_length(config, "steps", self.steps)
        try:
            set_fields(config, [*self._fields_of(config), *_own_fields(config, arm)])
            check_unused(config)
        except ValueError as error:
            raise ValueError(f"{arm.title}: {error}") from None
        if len(config.eval.sets) > 1:
            raise ValueError(
                f"{arm.title}: eval.sets: a comparison tells one top-1 of each arm; give one set"
            )
        if config.eval.patience:
            raise ValueError(
                f"{arm.title}: eval.patience: a comparison tells of states that no evaluation "
                "chose; set it to 0"
            )
        return config

    def _fields_of(self, config: ConfigDict) -> list[str]:
        """Of the fields of all arms those that an arm's config has a use for."""
        return [one for one in self.fields if has_use_for(config, one.partition("=")[0])]

    def _use_members(self, config: ConfigDict, arm: Arm, seed: int) -> None:
        """Members are runs of this comparison, evaluated together on images as for themselves."""
        members = [arm_named(name, self.arms) for name in arm.kind.after]
        config.task.members = tuple(str(one.folder(self.root, seed)) for one in members)
        own = self.config(members[0], seed)
        config.data.pipeline, config.eval.pipeline = own.data.pipeline, own.eval.pipeline

    def _teacher_of(self, arm: Arm, seed: int) -> str:
        """What an arm learns from: the teacher, or an earlier arm's finished model."""
        if not arm.kind.after:
            return self.teacher
        (needed,) = arm.kind.after
        return str(arm_named(needed, self.arms).folder(self.root, seed) / "model")


def _use_steps(config: ConfigDict, steps: int) -> None:
    """A training's steps, of which the warm-up keeps its share; rows and evaluations for curves.

    No state is chosen by an evaluation: what is told is the last one's.
    """
    set_length(config, "steps", steps, keep_share=True)
    config.eval.every = -(-steps // CURVE_POINTS)
    config.log.every = max(1, min(config.log.every, steps // _LOGGED))
    config.checkpoint.keep_best = 0


def _with_flag(message: str) -> str:
    """An error of a form, which begins with its part or with a teacher's field, by the flag."""
    found = _OF_FLAG.match(message)
    return f"--{_FLAGS[found[1] or 'teacher']}: {message[found.end() :]}" if found else message


def _own_fields(config: ConfigDict, arm: Arm) -> list[str]:
    """An arm's settings by their whole names: a task's field goes before one of the config."""
    return [f"task.{one}" if one.partition("=")[0] in config.task else one for one in arm.settings]
