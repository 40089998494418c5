"""Every command line of README and docs/ is one that its command takes; every name is there."""

import argparse
import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import re

import pytest
from absl import flags

import vit_jax_xfer as vjx
from tests.documentation.pages import (
    ROOT,
    blocks,
    commands,
    commands_in,
    inline_code,
    logical_lines,
    pages,
    prose,
    python_blocks,
    shell_blocks,
)
from vit_jax_xfer.command_line.command_parser import CommandParser
from vit_jax_xfer.config import check_field, field_names
from vit_jax_xfer.experiments.config_files import config_names, load_config, split_config
from vit_jax_xfer.experiments.own_images import OwnImages
from vit_jax_xfer.front_door import COMMANDS

_JOBS = ("vit_jax_xfer.main", "vit_jax_xfer.plan")  # whose flags are absl's
_PACKAGE = "vit_jax_xfer"
_OTHERS = ("tests", "benchmarks")  # not of the package: their flags are looked up in their source
_WITH_FLAGS = ("faults", "fuzz", "mutants")  # rooms of tests/ that are commands
_FIELD = re.compile(r"--config\.((?:\w+\.)*\w+)")
# The list of changes tells of commands and fields that were.
PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]


class _Parsed(Exception):  # noqa: N818 - no error: parsing came to its end
    """Raised in place of what a command does after its arguments are read."""


def name_of(page) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def all_fields() -> frozenset[str]:
    """Fields that any config has."""
    return frozenset(field for name in config_names() for field in field_names(load_config(name)))


@pytest.fixture
def images(tmp_path):
    """A folder of two classes; of images a config looks at the names alone."""
    for name in (f"{kind}/{number}.jpg" for kind in ("ant", "bee") for number in range(10)):
        file = tmp_path / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def check_config(text: str, arguments, images) -> None:
    """A config's name, its argument and the fields set beside it."""
    name, argument = split_config(text)
    if name.startswith("my_"):  # a file of the reader's
        return
    if argument and argument.startswith("folder"):
        parts = dict(part.split("=", 1) for part in argument.split(",")[1:])
        assert "path" in parts and parts.keys() <= set(OwnImages.__dataclass_fields__), text
        # Weights are looked at when the config is made, and there are none here.
        kept = {key: part for key, part in parts.items() if key not in ("teacher", "like", "path")}
        argument = ",".join([f"folder,path={images}", *(f"{k}={v}" for k, v in kept.items())])
    config = load_config(name, argument or "")
    for field in _FIELD.findall("\n".join(arguments)):
        if not field.startswith("eval.sets."):
            check_field(config, field)


def check_job(command, images) -> None:
    """A training or a plan: absl's flags and a config."""
    module = importlib.import_module(command.module)
    key_flags = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)}
    for argument in command.arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and not name.startswith("config."):
            assert name in key_flags | {"help"}, f"{command.place}: --{name}"
    config = dict(re.findall(r"^--(config)=(.*)$", "\n".join(command.arguments), re.M))
    if command.whole and config:
        check_config(config["config"], command.arguments, images)
    else:
        assert set(_FIELD.findall("\n".join(command.arguments))) <= all_fields()


@contextlib.contextmanager
def parsing_alone(monkeypatch):
    """Commands end with _Parsed where their arguments are read."""
    whole = argparse.ArgumentParser.parse_args

    def parse_args(self, *arguments, **more):
        whole(self, *arguments, **more)
        raise _Parsed

    def ending(known):
        def parse_known_args(self, *arguments, **more):
            found, rest = known(self, *arguments, **more)
            if inspect.currentframe().f_back.f_code.co_name in ("parse_args", "parse_known_args"):
                return found, rest
            assert [one for one in rest if one.partition("=")[0][9:] not in all_fields()] == []
            raise _Parsed

        return parse_known_args

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        for parser in (argparse.ArgumentParser, CommandParser):
            patch.setattr(parser, "parse_known_args", ending(parser.parse_known_args))
        yield


@functools.cache
def help_of(module: str) -> str:
    """What a command prints for --help."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        _main(module)(["--help"])
    return out.getvalue()


def _main(module: str):
    found = importlib.util.find_spec(module)
    if found.submodule_search_locations:
        module += ".__main__"
    return importlib.import_module(module).main


def check_command(command, monkeypatch) -> None:
    """A command whose flags are argparse's: read as it will be, or its flags looked up."""
    if not command.whole:
        shown = set(re.findall(r"--[\w-]+", help_of(command.module)))
        for argument in command.arguments:
            flag = argument.partition("=")[0]
            if flag.startswith("--") and "…" not in flag and "$" not in flag:
                known = flag in shown or flag.removeprefix("--config.") in all_fields()
                assert known, f"{command.place}: {flag}"
        return
    with parsing_alone(monkeypatch), contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            _main(command.module)(list(command.arguments))
        except _Parsed:
            return
        except SystemExit as ended:
            assert "--help" in command.arguments and not ended.code, err.getvalue()
            return
    pytest.fail(f"{command.place}: it read no arguments")


def check_in_source(command) -> None:
    """Of tests and benchmarks: the module is there, and its flags stand in its package."""
    found = importlib.util.find_spec(command.module)
    assert found, command.place
    folder = ROOT / command.module.partition(".")[0]
    text = "".join(file.read_text() for file in folder.rglob("*.py"))
    for argument in command.arguments:
        flag = argument.partition("=")[0]
        assert not flag.startswith("--") or f'"{flag}"' in text, f"{command.place}: {flag}"


def check_one(command, images, monkeypatch) -> None:
    """AssertionError or ValueError for a command that would be refused."""
    top = command.module.partition(".")[0]
    if top in _OTHERS:
        check_in_source(command)
    elif top == _PACKAGE:
        assert importlib.util.find_spec(command.module), command.place
        if command.module in _JOBS:
            check_job(command, images)
        elif command.module != top:  # the door's own: --help, --version
            check_command(command, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_taken(page, images, monkeypatch):
    for command in commands(page):
        check_one(command, images, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_stands_where_none_is_read(page):
    """A block says what it is, and commands are in those of a shell, or between backticks."""
    assert [block.name for block in blocks(page) if not block.language] == []
    texts = [block.text for block in blocks(page) if block.language not in ("sh", "bash")]
    unread = "\n".join([*texts, *re.findall(r"^ {4}.*$", prose(page), re.M)])
    unread = re.sub(r"`[^`]*`", "", unread)
    assert re.findall(r".*(?:python -m vit_jax_xfer|vit-jax-xfer [a-z]).*", unread) == []


def test_commands_of_docstrings_and_of_help_are_taken(images, monkeypatch):
    """What configs and modules show indented, and the example at the end of each --help."""
    lines = []
    for file in [*(ROOT / "configs").glob("*.py"), *(ROOT / _PACKAGE).rglob("*.py")]:
        told = ast.get_docstring(ast.parse(file.read_text())) or ""
        shown = "\n".join(line for line in told.splitlines() if line.startswith("    "))
        lines += [(line.strip(), name_of(file)) for line in logical_lines(shown)]
    modules = {f"{_PACKAGE}.{command.module}" for command in COMMANDS.values()}
    for module in sorted(modules - set(_JOBS)):
        assert "default: None" not in help_of(module), module
        lines += [(line, module) for line in re.findall(r"^Example: (.*)$", help_of(module), re.M)]
    found = [one for line, place in lines for one in commands_in(line, place)]
    assert len(found) >= 40
    for command in found:
        check_one(command, images, monkeypatch)


def test_every_command_stands_on_a_page():
    """Also where a table has the last of its words alone."""
    told = {command.module for page in PAGES for command in commands(page)}
    words = {code for page in PAGES for code in inline_code(page)}
    lost = {
        name
        for name, command in COMMANDS.items()
        if f"{_PACKAGE}.{command.module}" not in told
        and not (name.startswith("evaluate ") and command.module.rpartition(".")[2] in words)
    }
    assert lost == set()


def test_there_are_commands_to_check():
    found = [command for page in PAGES for command in commands(page)]
    assert sum(command.whole for command in found) >= 40
    assert {"vit_jax_xfer.main", "vit_jax_xfer.compare"} <= {one.module for one in found}


@pytest.mark.parametrize(
    "command, wrong",
    [
        ("python -m vit_jax_xfer.predict MODEL photo.jpg --tpo 3", "--tpo"),
        ("python -m vit_jax_xfer.compare --data IMAGES", "--teacher"),
        ("python -m vit_jax_xfer.compare --data X --teacher T --out O --config.optim.lrr=1", "lrr"),
        ("python -m vit_jax_xfer.main --config=scrach:digits --workdir=x", "scrach"),
        ("python -m vit_jax_xfer.main --config=scratch:digits --wrkdir=x", "wrkdir"),
        ("python -m vit_jax_xfer.main --config=scratch --config.optim.lrr=1", "lrr"),
        ("python -m vit_jax_xfer.main --config=scratch:folder,path=X,lables=5", "lables"),
        ("python -m vit_jax_xfer.plan --config=… --devizes=2", "devizes"),
        ("python -m vit_jax_xfer.predikt MODEL", "here"),
        ("vit-jax-xfer predikt MODEL", "predikt"),
        ("vit-jax-xfer explain attention photo.jpg --model M --aat 1,2", "--aat"),
        ("vit-jax-xfer train --config=scratch --config.optim.lrr=1 --workdir=x", "lrr"),
        ("python -m benchmarks.steps --rouns 3", "--rouns"),
    ],
)
def test_a_wrong_command_is_found(command, wrong, images, monkeypatch):
    with pytest.raises((AssertionError, ValueError)) as raised:
        for one in commands_in(command, "here"):
            check_one(one, images, monkeypatch)
    assert wrong in str(raised.value)


def test_fields_in_sentences_exist():
    """`--config.FIELD=` in backticks, and a field's bare name with its section."""
    sections = {field.partition(".")[0] for field in all_fields() if "." in field}
    named = re.compile(rf"^(?:--config\.)?((?:{'|'.join(sorted(sections))})(?:\.\w+)+)(?:=.*)?$")
    unknown = set()
    for page in PAGES:
        for code in inline_code(page):
            found = named.match(code)
            if found and not found[1].startswith("eval.sets.") and not _is_other(found[1]):
                unknown |= {found[1]} - all_fields()
    assert unknown <= {"optim.learning_rate"}  # in a sentence on what is refused


def _is_other(name: str) -> bool:
    """Whether a name is a file's, or one in a room of the package with a section's name."""
    section, _, rest = name.partition(".")
    if rest in ("py", "json", "pth", "md"):
        return True
    try:
        functools.reduce(getattr, rest.split("."), importlib.import_module(f"{_PACKAGE}.{section}"))
    except (ImportError, AttributeError):
        return False
    return True


def test_flags_in_sentences_exist():
    """`--flag` in backticks is in the --help of one of our commands, or in a script of ours."""
    files = [*(ROOT / "launch").glob("*.sh"), *(ROOT / "benchmarks").rglob("*.py")]
    files += [file for room in _WITH_FLAGS for file in (ROOT / "tests" / room).rglob("*.py")]
    told = [file.read_text() for file in files]
    key_flags = flags.FLAGS.get_key_flags_for_module
    for module in (f"{_PACKAGE}.{command.module}" for command in COMMANDS.values()):
        job = module in _JOBS and importlib.import_module(module)
        told += [f"--{flag.name}" for flag in key_flags(job)] if job else [help_of(module)]
    known = {"--help", "--version", *re.findall(r"--[a-z][\w-]*", "\n".join(told))}
    codes = {code for page in PAGES for code in inline_code(page) if code.startswith("--")}
    named = {flag for code in codes for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
    assert len(named) >= 60
    # A flag of the published code, and one that version 0.1 had.
    assert named - known == {"--end_layer", "--ways"}


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        text = "\n".join([*(block.text for block in shell_blocks(page)), *inline_code(page)])
        assert set(re.findall(r"^make ([a-z][\w-]*)", text, re.M)) <= targets, page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_python_exist(page):
    """Of each Python block: it parses, `vjx.` names are there and take the arguments given."""
    for block in python_blocks(page):
        for node in ast.walk(ast.parse(block.text, filename=block.name)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("vit_jax_xfer"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{block.name}: {name.name}"
            elif isinstance(node, ast.Call):
                _check_call(node, block.name)
            elif isinstance(node, ast.Attribute):
                _public(node, block.name)


def _public(node: ast.expr, place: str):
    """What `vjx.a.b` is; None for an expression that isn't one of its names."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not names or not isinstance(node, ast.Name) or node.id != "vjx":
        return None
    found = vjx
    for name in reversed(names):
        assert hasattr(found, name), f"{place}: vjx.{'.'.join(reversed(names))}"
        found = getattr(found, name)
    return found


def _check_call(node: ast.Call, place: str) -> None:
    called = _public(node.func, place)
    if called is None:
        return
    takes = inspect.signature(called).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in takes):
        return
    given = {keyword.arg for keyword in node.keywords if keyword.arg}
    assert given <= {one.name for one in takes}, f"{place}: {ast.unparse(node)}"


def test_messages_of_troubleshooting_are_the_commands():
    """What a symptom quotes stands in the code; "…" is what differs from case to case."""
    page = (ROOT / "docs/troubleshooting.md").read_text()
    symptoms = re.findall(r"^\| (.*?) \|", page, re.M)
    quoted = [code for symptom in symptoms for code in re.findall(r"`([^`]*[ .][^`]*)`", symptom)]
    parts = [part.strip() for code in quoted for part in code.split("…")]
    text = "".join(file.read_text() for file in (ROOT / _PACKAGE).rglob("*.py"))
    text = re.sub(r'"\n\s*f?"', "", text)  # a message goes on in the next line
    own = [part for part in parts if part and not part.startswith("No module named")]
    assert len(own) >= 8
    assert [part for part in own if part not in text] == []
