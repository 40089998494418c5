"""launch/colab.ipynb, its cells executed from top to bottom as a kernel would, at a tiny size."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from tests.launch_scripts.fake_services import ROOT, make_services

NOTEBOOK = ROOT / "launch" / "colab.ipynb"
CONFIGS = ("masked_pretraining.py", "attention_distill.py", "scratch.py")
TINY = {
    "TEACHER_STEPS": 6,
    "STUDENT_STEPS": 4,
    "LABELS": 2,
    "REAL_TEACHER": "real",
    "PHOTOGRAPH": "photograph.jpg",
    "FIELDS": {
        "model.width": 32,
        "model.depth": 2,
        "model.num_heads": 2,
        "batch_size": 32,
        "eval.split": "test[:64]",
        "optim.warmup_steps": 2,
    },
}
# Runs programs, [[source of a cell, ...], ...], one after the other and tells what each made.
EXECUTE = """
import json, pathlib, sys
told = []
for cells in json.load(sys.stdin):
    space = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"<cell {number}>", "exec"), space)
    shapes = {name: list(look.attention.shape) for name, look in space["looks"].items()}
    axes = len(space["figure"].axes)
    heads = None if space["heads"] is None else list(space["heads"].shape)
    told.append({"shapes": shapes, "figures": space["figures"], "axes": axes, "heads": heads})
    print("=== end", flush=True)
pathlib.Path("told.json").write_text(json.dumps(told))
"""


def notebook() -> dict:
    return json.loads(NOTEBOOK.read_text())


def sources(**variables) -> list[str]:
    """The code cells; after the one tagged "parameters", as papermill does, one that sets these."""
    found = []
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            found.append("".join(cell["source"]))
        if "parameters" in cell["metadata"].get("tags", ()):
            names = {target.id for node in ast.parse(found[-1]).body for target in node.targets}
            assert variables.keys() <= names
            found.append("".join(f"{name} = {value!r}\n" for name, value in variables.items()))
    return found


def execute(folder, *programs: list[str]) -> list[dict]:
    """What each program made and printed, all in one process that is started in `folder`."""
    ended = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        input=json.dumps(programs),
        env={
            **os.environ,
            "VIT_JAX_XFER": str(ROOT),
            "PYTHONPATH": str(ROOT),
            "MPLBACKEND": "agg",
            "JAX_NUM_CPU_DEVICES": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads((folder / "told.json").read_text())
    return [
        {**made, "out": out}
        for made, out in zip(told, ended.stdout.split("=== end\n")[:-1], strict=True)
    ]


def put_real_teacher(folder) -> None:
    """Stands in for published weights and a photograph: real/ and photograph.jpg."""
    import jax
    import numpy as np
    from PIL import Image

    import vit_jax_xfer as vjx

    model = vjx.create_model(
        "vit_micro_patch8",
        **{"image_size": 32, "width": 16, "depth": 1, "num_heads": 2, "num_classes": 0},
        preprocessing=vjx.Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size=32),
    )
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    vjx.save(folder / "real", model, variables)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photograph.jpg")


def test_it_is_stored_without_what_it_printed():
    book = notebook()
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    assert book["cells"][0]["cell_type"] == "markdown"
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    # Plain Python alone: what a kernel alone understands would not be tested here.
    for cell in code:
        ast.parse("".join(cell["source"]))


def test_from_top_to_bottom_then_with_its_teacher_given(tmp_path):
    pytest.importorskip("matplotlib", reason="the notebook draws: pip install '.[plots]'")
    put_real_teacher(tmp_path)
    # The second time with the teacher that the first has made, and without the real one.
    given = {**TINY, "REAL_TEACHER": "nowhere", "TEACHER": "runs/notebook/teacher/model"}
    made, again = execute(tmp_path, sources(**TINY), sources(**given))
    # (layers, images, heads, tokens, tokens): 4 × 4 patches and the class token
    names = ("teacher", "distilled student", "student alone")
    assert made["shapes"] == dict.fromkeys(names, [2, 6, 2, 17, 17])
    assert made["axes"] == 6 * 4
    assert (tmp_path / "runs/notebook/attention.png").stat().st_size > 10_000
    for figures in made["figures"].values():
        assert 0 <= figures["top-1 %"] <= 100 and 0 < figures["distance"] < 1
    assert "--- teacher: " in made["out"] and "--- teacher" not in again["out"]
    # The photograph, by each head of the real teacher; where there is none that is said.
    assert made["heads"] == [2, 4, 4] and again["heads"] is None
    assert "could not be fetched here" in again["out"] and "nowhere" in again["out"]
    assert (tmp_path / "runs/notebook/photograph.png").stat().st_size > 5_000
    # Runs that are there are not run again.
    assert "--- distilled: finished already" in again["out"]
    assert again["figures"] == made["figures"]


def test_the_larger_network_it_suggests_is_one():
    from vit_jax_xfer.config import check_field
    from vit_jax_xfer.models.registry import create_model
    from vit_jax_xfer.quickstart import load_config

    (parameters,) = (source for source in sources() if source.startswith("# Where everything"))
    fields = ast.literal_eval(re.search(r"\{\"model.*\}", parameters).group())
    for file in CONFIGS:
        config = load_config(file, "digits")
        for field in fields:
            check_field(config, field)
        config.update_from_flattened_dict(fields)
        assert config.model.width == 384 and config.model.width % config.model.num_heads == 0
    create_model(config.model.name, width=384, depth=config.model.depth)


@pytest.mark.parametrize("given", [None, "/a/checkout[plots,hf]"])
def test_it_installs_the_package_and_moves_no_jax(given, tmp_path):
    """The cell alone, in a Python without the project, with a pip that notes the call."""
    services = make_services(tmp_path)
    services.add("python")
    parameters = next(source for source in sources() if source.startswith("# Where everything"))
    (cell,) = (source for source in sources() if "pip" in source and "subprocess" in source)
    for name, number in (("jax", "0.10.2"), ("jax_cuda13_plugin", "0.10.2"), ("other", "1.0")):
        metadata = tmp_path / f"{name}-{number}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    fake = (
        f"import sys; sys.executable = {str(services.folder / 'python')!r}; sys.path.append('.')\n"
    )
    for name in ("VIT_JAX_XFER", "PYTHONPATH"):
        services.environment.pop(name, None)
    if given:
        services.environment["VIT_JAX_XFER"] = given
    # -S: without site-packages, and so without the project
    command = [sys.executable, "-S", "-P", "-c", fake + parameters + "\n" + cell]
    subprocess.run(command, env=services.environment, cwd=tmp_path, check=True)
    (install,) = services.calls()
    assert install[1:4] == ["-m", "pip", "install"]
    assert install[-3:-1] == ["--constraint", "kept.txt"]
    assert install[-1] == (given or "vit_jax_xfer[plots,hf]==0.1.0")
    kept = (tmp_path / "kept.txt").read_text().split()
    assert kept == ["jax==0.10.2", "jax_cuda13_plugin==0.10.2"]


def test_the_released_version_is_this_one():
    import vit_jax_xfer as vjx

    (parameters,) = (source for source in sources() if source.startswith("# Where everything"))
    assert f'PACKAGE = "vit_jax_xfer[plots,hf]=={vjx.__version__}"' in parameters
