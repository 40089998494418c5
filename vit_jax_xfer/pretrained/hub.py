"""Where weights come from: a path of this machine, or hf:ORG/NAME of the Hugging Face hub.

What the hub has is fetched by huggingface_hub into its own cache, which HF_HOME moves; with
HF_HUB_OFFLINE=1, and where no network is, what lies there is taken.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.local_paths import local_path, path_text
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.weight_files import ENDINGS, WEIGHTS, read_json

# What says more of a model than its weights do; a repository's tokenizers can be larger than these.
_BESIDE = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
    "adapter_config.json",
)
_OUR_MODEL = "model.json"  # of a folder that `vjx.save` wrote, which is taken whole
_PREFIX = re.compile(r"(hf|hf-hub|hf_hub):(//)?")
_TIMMS = re.compile(r"timm/[\w.-]+(@\S+)?")
# A pull request's or a conversion's revision has slashes of its own.
_PARTS = re.compile(
    r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>refs/\w+/[^/@\s]+|[^/@\s]+))?(/(?P<inside>[^@\s]+))?"
)
_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:/(?:resolve|blob|raw|tree)/(?P<revision>[^/?]+)(?P<inside>/[^?]+)?)?/?(?:\?.*)?"
)


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """A repository of the hub at a revision (None = its main branch), and a file or folder in it.

    inside: "" = the repository itself.
    """

    repo: str
    revision: str | None = None
    inside: str = ""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repo}{at}" + (f"/{self.inside}" if self.inside else "")


def local_source(source: str | os.PathLike[str], field: str = "source") -> Path:
    """Where a source of weights lies on this machine; what the hub has is fetched before.

    source: a path, or hf:ORG/NAME[@REVISION][/FILE] (also hf-hub:…, and timm/NAME where there is no
        such path). Of a repository only weights are fetched, .safetensors where there are any, and
        the JSON files that say what they are; the commit is said. A process fetches each once.
    ValueError naming the field for other addresses, and in one line for what the hub lacks, refuses
    or can't be asked for; FileNotFoundError for a name that is no path, which says how to pass it;
    ImportError without huggingface_hub. ValueError naming the field also for what is no path.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        way = "; pass its state_dict()" if hasattr(source, "state_dict") else ""
        raise ValueError(
            f"{field}: got a {type(source).__name__}, expected a path, hf:ORG/NAME or a mapping "
            f"{{name: array}}{way}"
        )
    text = path_text(source, field)
    address = hub_address(text)
    if address is not None:
        return _fetched(address)
    if re.match(r"https?://", text):
        raise ValueError(f"{field}: {text} {_instead_of(text)}")
    path = local_path(text, field)
    if not path.exists() and (hint := _hint(text)):
        raise FileNotFoundError(f"{text}: no such file or folder here; {hint}")
    return path


def hub_address(text: str) -> HubAddress | None:
    """The address that a text is; None for paths. ValueError for one that can't be read."""
    prefix = _PREFIX.match(text)
    if prefix is None:
        named = _TIMMS.fullmatch(text) and not text.lower().endswith(ENDINGS)
        if not named or Path(text).exists():
            return None
    parts = _PARTS.fullmatch(text[prefix.end() if prefix else 0 :].rstrip("/"))
    if parts is None:
        raise ValueError(f"{text}: expected hf:ORG/NAME, hf:ORG/NAME@REVISION or …/FILE")
    inside = parts["inside"] or ""
    if ".." in inside.split("/"):
        raise ValueError(f"{text}: {inside} leads out of the repository")
    return HubAddress(parts["repo"], parts["revision"], inside)


def _instead_of(url: str) -> str:
    """What to do with a web address."""
    page = _PAGE.fullmatch(url)
    if page is None:
        return f"is an address: download it first (curl -LO {url}), and pass the file"
    revision = None if page["revision"] == "main" else page["revision"]
    address = HubAddress(page["repo"], revision, (page["inside"] or "").strip("/"))
    return f"is a page of the hub; pass {address}, which downloads it"


def _hint(text: str) -> str:
    """How to pass what is no path but may be a name; "" where it is none."""
    if text.lower().endswith(ENDINGS) or Path(text).is_absolute():
        return ""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not Path(text).parent.is_dir():
        return f"a model of the Hugging Face hub is passed as hf:{text}"
    if re.fullmatch(r"[A-Za-z][\w.-]*", text):
        return (
            f"weights that timm published are downloaded as hf:timm/{text}, with the tag in the "
            "name; other names of the Hugging Face hub are hf:ORG/NAME"
        )
    return ""


# Once a process, so that all that it reads of one address is of one commit.
@functools.cache
def _fetched(address: HubAddress) -> Path:
    """The folder or file of an address in the hub's cache, fetched where it is not there yet."""
    try:
        from huggingface_hub import HfApi, errors, snapshot_download
    except ImportError as error:
        raise ImportError(f"{address}: needs `pip install vit_jax_xfer[hf]`") from error
    # HfHubHTTPError's bases are those of the library that it speaks HTTP with, which changed twice;
    # lost connections are errors of that library too, or OSErrors.
    unreachable = (*errors.HfHubHTTPError.__bases__, OSError)
    try:
        info = HfApi().model_info(address.repo, revision=address.revision)
        names = [file.rfilename for file in info.siblings or ()]
        wanted = _chosen(address, names)
        fetch = functools.partial(snapshot_download, address.repo, revision=address.revision)
        folder = Path(fetch(allow_patterns=wanted))
        if shards := _shards(folder, wanted):
            folder = Path(fetch(allow_patterns=[*wanted, *shards]))
    except (errors.HFValidationError, errors.HfHubHTTPError) as error:
        if refused := _refusal(address, error, errors):
            raise ValueError(f"{address}: {refused}") from error
        folder = _cached(address, error)
    except unreachable as error:
        folder = _cached(address, error)
    else:
        note(f"{address} is {_pinned(address, folder)}: {_brief(wanted)}")
    return folder / address.inside


def _refusal(address: HubAddress, error: Exception, errors: Any) -> str:
    """Why the hub does not give it, where it said so; "" where it only failed to answer."""
    if isinstance(error, errors.GatedRepoError):
        return (
            f"is gated: ask for access on https://huggingface.co/{address.repo}, then log in "
            "(`hf auth login`, or HF_TOKEN=…)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {address.revision} of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "the hub has no such repository, or it is private: check the name, or log in "
            "(`hf auth login`, or HF_TOKEN=…)"
        )
    if isinstance(error, errors.HFValidationError):
        return f"is no name that the hub has: {_line(error)}"
    return ""


def _cached(address: HubAddress, error: Exception) -> Path:
    """The snapshot that is in the cache, which is said. ValueError where none is."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    offline = isinstance(error, OfflineModeIsEnabled)
    why = "HF_HUB_OFFLINE is set" if offline else f"the hub can't be reached ({_line(error)})"
    try:
        # Which of the repository's files ought to be there is unknown; the reader will miss them.
        found = snapshot_download(
            address.repo, revision=address.revision, allow_patterns=[], local_files_only=True
        )
    except EntryNotFoundError:
        raise ValueError(
            f"{address}: {why}, and its cache {constants.HF_HUB_CACHE} has no copy; download it "
            "where there is a network, and pass the folder"
        ) from error
    folder = Path(found)
    if not (folder / address.inside).exists():
        raise ValueError(f"{address}: {why}, and the copy in {folder} lacks it") from error
    note(f"{address}: {why}; taken from the cache, {_pinned(address, folder)}")
    return folder


def _pinned(address: HubAddress, folder: Path) -> HubAddress:
    """The address at the commit of a snapshot, whose folder is called so."""
    return dataclasses.replace(address, revision=folder.name)


def _chosen(address: HubAddress, names: Sequence[str]) -> list[str]:
    """The files of a repository that make up a model. ValueError where none or several would do."""
    if address.inside in names:
        return [address.inside]
    start = f"{address.inside}/" if address.inside else ""
    here = [name.removeprefix(start) for name in names if name.startswith(start)]
    if _OUR_MODEL in here:
        return [start + name for name in here]
    files = [name for name in here if "/" not in name]
    weights = next(([name] for name in WEIGHTS if name in files), None)
    if weights is None:
        weights = [name for name in files if name.lower().endswith(ENDINGS)]
        weights = [name for name in weights if name.endswith(".safetensors")] or weights
    if not weights:
        raise ValueError(
            f"{address}: no weights there; looked for {', '.join(WEIGHTS)} and names that end in "
            f"{', '.join(ENDINGS)}, and it has {_brief(files) or 'nothing'}"
        )
    if len(weights) > 1:
        raise ValueError(
            f"{address}: several weights files, {_brief(weights)}; pass one, as "
            f"{dataclasses.replace(address, inside=start + weights[0])}"
        )
    return [start + name for name in (*weights, *(x for x in _BESIDE if x in files))]


def _shards(folder: Path, wanted: Sequence[str]) -> list[str]:
    """The files that an index among those that were fetched lists."""
    index = next((name for name in wanted if name.endswith(".index.json")), None)
    if index is None:
        return []
    files = (read_json(folder / index) or {}).get("weight_map")
    names = set(files.values()) if isinstance(files, dict) else set()
    start = index[: index.rfind("/") + 1]
    return [start + name for name in sorted(n for n in names if isinstance(n, str))]


def _brief(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
