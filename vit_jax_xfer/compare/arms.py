"""The arms of a comparison: which config each is, and what it takes from the teacher."""

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class ArmKind:
    """A way to learn. config: of configs/. what: in a few words, for the report.

    teacher: the field that names what it learns from. after: the kinds whose finished models stand
    there; without any, it is the comparison's teacher.
    """

    config: str
    title: str
    what: str
    teacher: str = ""
    after: tuple[str, ...] = ()


KINDS: dict[str, ArmKind] = {
    "scratch": ArmKind("scratch", "scratch", "no help"),
    "finetune": ArmKind("finetune", "fine-tune", "starts from the teacher's weights", "init_from"),
    "probe": ArmKind(
        "linear_probe", "linear probe", "a head on the teacher's weights, which stay", "init_from"
    ),
    "copy": ArmKind(
        "attention_copy",
        "attention copy",
        "computes with the teacher's attention maps",
        "task.teacher",
    ),
    "distill": ArmKind(
        "attention_distill",
        "attention distill",
        "learns attention maps like the teacher's",
        "task.teacher",
    ),
    "feature_distill": ArmKind(
        "feature_distill",
        "feature distill",
        "its features follow the teacher's, block by block",
        "task.teacher",
    ),
    "logit_distill": ArmKind(
        "logit_distill",
        "logit distill",
        "learns the fine-tuned model's probabilities",
        "task.teacher",
        ("finetune",),
    ),
    "finetuned_teacher": ArmKind(
        "finetuned_teacher",
        "fine-tuned teacher",
        "learns attention maps like the fine-tuned model's",
        "task.teacher",
        ("finetune",),
    ),
    "ensemble": ArmKind(
        "ensemble",
        "ensemble",
        "distilled student and fine-tuned model together",
        "task.members",
        ("distill", "finetune"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """A kind with settings of its own, "mode=distill_q": fields of its task, or of its config."""

    name: str
    settings: tuple[str, ...] = ()

    @property
    def kind(self) -> ArmKind:
        """What its name stands for."""
        return KINDS[self.name]

    @property
    def title(self) -> str:
        """What it is called in the report."""
        return " ".join((self.kind.title, *self.settings))

    def folder(self, root: pathlib.Path, seed: int) -> pathlib.Path:
        """The work folder of its run with a seed."""
        name = re.sub(r"[^-=.\w]", "_", self.title)
        return root / f"{name}_seed{seed}"


def parse_arms(text: str) -> tuple[Arm, ...]:
    """ "scratch,distill:mode=distill_q" → arms, in that order; those that others need come first.

    Several settings stand behind colons; commas within brackets belong to a value. ValueError for a
    kind that there is not, an arm that stands twice, two whose runs would share a folder, and one
    without the arms that it needs.
    """
    arms = [_parse_arm(part.strip()) for part in re.split(r",(?![^()\[\]]*[)\]])", text)]
    twice = next((arm for arm in arms if arms.count(arm) > 1), None)
    if twice is not None:
        raise ValueError(f"--arms: {twice.title!r} stands there twice")
    by_folder: dict[pathlib.Path, Arm] = {}
    for arm in arms:
        other = by_folder.setdefault(arm.folder(pathlib.Path(), 0), arm)
        if other != arm:
            raise ValueError(
                f"--arms: {other.title!r} and {arm.title!r} would have one folder for both; leave "
                "one out, or write its settings otherwise"
            )
    for arm in arms:
        for needed in arm.kind.after:
            if not any(other.name == needed for other in arms):
                raise ValueError(f"--arms: {arm.name} needs the models of {needed}; add that arm")
    return tuple(sorted(arms, key=lambda arm: len(arm.kind.after)))


def arm_named(name: str, arms: Sequence[Arm]) -> Arm:
    """The first arm of a kind: whose models stand for it where others need them."""
    return next(arm for arm in arms if arm.name == name)


def _parse_arm(text: str) -> Arm:
    name, *settings = re.split(r":(?![^()\[\]]*[)\]])", text)
    if name not in KINDS:
        raise ValueError(f"--arms: {name!r} is none of {', '.join(KINDS)}{_meant(name)}")
    wrong = next((one for one in settings if not re.match(r"[a-z][\w.]*=.", one)), None)
    if wrong is not None:
        raise ValueError(f"--arms: {text!r}: {wrong!r} is no FIELD=VALUE")
    return Arm(name, tuple(settings))


def _meant(name: str) -> str:
    """The kind whose config or title this is, or the nearest by spelling, as a question."""
    known = {name: name for name in KINDS}
    known |= {kind.config: name for name, kind in KINDS.items()}
    known |= {kind.title: name for name, kind in KINDS.items()}
    near = difflib.get_close_matches(name.replace(" ", "_"), known, n=1)
    return f"; did you mean {known[near[0]]!r}?" if near else ""
