"""What the commands around a config share: its flag, and errors of one line."""

import functools
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from vit_jax_xfer import terminal
from vit_jax_xfer.experiments.config_files import find_config, split_config
from vit_jax_xfer.front_door import command_name
from vit_jax_xfer.huge_pages import begin_with_huge_pages

_LONGEST = 4000  # letters of an error
_NO_BOOLEAN = re.compile(r"\('Non-boolean argument to boolean flag', .*\)$")  # as absl has it
_HELP = {"--help", "-help", "-h", "--helpshort"}

flags.disclaim_key_flags()  # --help lists --config as the command's own


def config_flag() -> flags.FlagHolder:
    """The flag --config, a config by name or file, with fields set by --config.FIELD=VALUE.

    One flag for all commands that are imported into a process, and a key flag of each in --help.
    """
    holder = _define_config_flag()
    flags.declare_key_flag("config")
    return holder


@functools.cache
def _define_config_flag() -> flags.FlagHolder:
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "A config by its short name, or a file, with the variant after a colon: "
        "attention_distill:digits, scratch:folder,path=IMAGES, mine.py. "
        "Fields are set with --config.FIELD=VALUE.",
        lock_config=True,
    )
    flags.FLAGS["config"].parser = _ConfigFile(flags.FLAGS["config"].parser)
    for kind, parser, words in (
        (int, flags.IntegerParser(), "a whole number"),
        (float, flags.FloatParser(), "a number"),
        (str, flags.ArgumentParser(), "a text"),
        (bool, flags.BooleanParser(), "True or False"),
    ):
        config_flags.register_flag_parser_for_type(kind, _OrNone(parser, words))
    return holder


def run_by_flags(
    action: Callable[[list[str]], int],
    module: str,
    defined_in: str,
    about: str,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Runs a command whose flags are absl's, with these arguments or the process's own, and exits.

    module: the command's. defined_in: the `__name__` under which its flags were defined. about: its
    docstring, which --help shows.
    """
    begin_with_huge_pages()
    name = command_name(module)
    argv = sys.argv if arguments is None else [name, *arguments]
    if _HELP.intersection(itertools.takewhile(lambda one: one != "--", argv[1:])):
        show_help(name, about.replace(f"python -m {module}", name), defined_in)
        sys.exit(0)
    app.run(action, argv=argv, flags_parser=parse_flags)


def show_help(name: str, about: str, defined_in: str) -> None:
    """What a command does, and its own flags."""
    # Where a module is the program itself, absl knows its flags by the program's name.
    place = sys.argv[0] if defined_in == "__main__" else defined_in
    listed = flags.FLAGS.module_help(place)
    own = listed.strip().partition("\n")[2]  # without the module's own name
    terminal.show(f"usage: {name} [FLAGS]\n\n{about.strip()}\n\nflags:\n{own}")


def parse_flags(argv: list[str]) -> list[str]:
    """The arguments that are no flags; a wrong flag ends the program with one line.

    A flag may be written with "_" in place of "-", as version 0.1 had it.
    """
    argv = [argv[0], *(_hyphened(one) for one in argv[1:])]
    given = sum(re.match(r"--?config(=|$)", one) is not None for one in argv)
    if given > 1:  # absl would define its fields once more
        sys.exit(fail(f"--config: given {given} times; give it once"))
    try:
        rest = flags.FLAGS(argv)
        _unset(argv, flags.FLAGS["config"].value)
    except flags.UnrecognizedFlagError as error:
        sys.exit(fail(f"{error}{_meant_field(error.flagname)}"))
    except flags.Error as error:
        sys.exit(fail(_NO_BOOLEAN.sub("expected true or false", str(error))))
    return rest


def set_fields(config: ConfigDict, assignments: Sequence[str]) -> None:
    """Sets fields of a config, each as "FIELD=VALUE", as --config.FIELD=VALUE does in the job.

    ValueError, in one line, for a field that there is not and for a value that isn't one of it.
    """
    _check_fields(config, [one.partition("=")[0] for one in assignments])
    _define_config_flag()  # which says how values are read
    argv = ["", *(f"--config.{one}" for one in assignments)]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        _set_length(config, argv)
        values(argv)
        _unset(argv, config)
    except flags.Error as error:
        raise ValueError(str(error)) from None


def fail(message: str) -> int:
    """Prints an error on stderr, shortened in its middle; the exit status 1."""
    if len(message) > _LONGEST:  # what it quotes may be any file's
        message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
    terminal.show(f"error: {message}", name="stderr")
    return 1


def _hyphened(argument: str) -> str:
    """--image_size=N as --image-size=N, where that is a flag; all else as it is."""
    flag, equals, value = argument.partition("=")
    name = flag.lstrip("-").replace("_", "-")
    return f"--{name}{equals}{value}" if flag[:1] == "-" and name in flags.FLAGS else argument


def _meant_field(flag: str) -> str:
    """Where a flag that there is not has a field's name: how that field is set, after a "; "."""
    config, name = flags.FLAGS["config"].value, flag.replace("-", "_")
    if config is None:
        return ""
    from vit_jax_xfer.config import field_names

    names = field_names(config)
    sections = {one.rpartition(".")[0] for one in names}
    found = [one for one in names if name in (one, one.rpartition(".")[2]) and one not in sections]
    written = [f"--config.{one}=…" for one in found]
    return f"; fields of the config are set so: {' or '.join(written)}" if found else ""


def _check_fields(config: ConfigDict, fields: Sequence[str]) -> None:
    """ValueError for what is no field to set; a set of evaluation that is named is added."""
    from vit_jax_xfer.config import add_evaluation_set, check_field, check_no_section

    for field in fields:
        named = re.match(r"eval\.sets\.([^.]+)\.", field)
        if named and named[1] not in config.eval.sets:
            add_evaluation_set(config, named[1])
        check_field(config, field)
        check_no_section(config, field)


def _unset(argv: list[str], config: ConfigDict) -> None:
    """Unsets fields that are given as None. flags.Error where one has no such value."""
    fields = [field for field, text in _overrides(argv).items() if text == "None"]
    if not fields:
        return
    from vit_jax_xfer.config import default_config

    for field in fields:
        if field in ("task.name", "model.name"):
            raise flags.IllegalFlagValueError(f"flag --config.{field}=None: it can't be unset")
    usual = default_config(config.task["name"], config.model["name"], settings={})
    for field in fields:
        *sections, last = field.split(".")
        if functools.reduce(lambda tree, name: tree.get(name, {}), field.split("."), usual) is None:
            functools.reduce(lambda tree, name: tree[name], sections, config)[last] = None
            continue
        raise flags.IllegalFlagValueError(f"flag --config.{field}=None: it can't be unset")


def _overrides(argv: Sequence[str]) -> dict[str, str]:
    """{field: text} of each --config.FIELD=TEXT, or --config.FIELD TEXT; of several the last."""
    found: dict[str, str] = {}
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if match := re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", argument, re.S):
            found[match[1]] = following if match[2] is None else match[2]
    return found


def _set_length(config: ConfigDict, argv: list[str]) -> str:
    """Where steps or epochs alone are given: that length, whatever the config has.

    Returns a line that says what else changed with it, "" where nothing did.
    """
    from vit_jax_xfer.experiments.run_length import UNITS, set_length

    given = _overrides(argv)
    lengths = [unit for unit in UNITS if unit in given]
    if len(lengths) != 1:
        return ""
    (unit,) = lengths
    try:
        value = {"steps": int, "epochs": float}[unit](given[unit])
    except ValueError:
        return ""  # None, or what the field's own flag refuses
    if not 0 < value < 2**53:
        return ""  # refused where the run begins
    changed = set_length(config, unit, value, given)
    return f"--config.{unit}={given[unit]}: {', '.join(changed)}" if changed else ""


class _OrNone(flags.ArgumentParser):
    """Parses a field as its type does, and None, which unsets it.

    words: what is expected, for the error.
    """

    def __init__(self, of_type: flags.ArgumentParser, words: str):
        self._of_type, self._words = of_type, words
        self.syntactic_help = of_type.syntactic_help

    def parse(self, argument: Any) -> Any:
        if argument == "None":
            return None
        try:
            return self._of_type.parse(argument)
        except (TypeError, ValueError):
            raise ValueError(f"expected {self._words}") from None

    def flag_type(self) -> str:
        return self._of_type.flag_type()


class _ConfigFile(flags.ArgumentParser):
    """Loads a config file. What is wrong with it, or with a field's name, becomes one line."""

    def __init__(self, loader: flags.ArgumentParser):
        self._loader = loader

    def parse(self, path: str) -> ConfigDict:
        name, argument = split_config(path)
        file = str(find_config(name))
        try:
            config = self._loader.parse(file if argument is None else f"{file}:{argument}")
        except ValueError as error:  # its text is a traceback, which ends with the cause
            cause = str(error).strip().splitlines()[-1]
            raise ValueError(cause.removeprefix("ValueError: ")) from error
        from vit_jax_xfer.config import check_complete

        check_complete(config)
        # Here, because ml-collections ends in a traceback over a field that does not exist.
        given = re.findall(r"^--?(?:no)?config\.([^=\n[]+)", "\n".join(sys.argv), re.M)
        _check_fields(config, given)
        if changed := _set_length(config, sys.argv):
            terminal.show(f"note: {changed}", name="stderr")
        return config
