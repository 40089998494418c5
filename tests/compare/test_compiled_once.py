"""Runs with other seeds are one program, and a comparison compiles it once."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.runs import tiny_config
from vit_jax_xfer.compare import arm_runs
from vit_jax_xfer.compare.arm_report import ReportTexts
from vit_jax_xfer.compare.arms import parse_arms
from vit_jax_xfer.compare.comparison import ComparedImages, Comparison
from vit_jax_xfer.compare.compiled_once import compiled_once
from vit_jax_xfer.compare.to_report import run_to_report
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.placeholder_teacher import placeholder_loader
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.inputs import batch_shapes
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import make_mesh

HITS = "/jax/compilation_cache/cache_hits"
TEACHER = {"vit_micro_patch2": {"image_size": 8, "width": 16, "depth": 2, "num_heads": 2}}


@pytest.fixture
def no_cache(monkeypatch):
    """JAX as a user has it, who has set no cache of compiled programs."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture
def hits():
    """Programs that JAX has taken from a cache since."""
    found = []

    def listen(event, **about):
        if event == HITS:
            found.append(about)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def compile_anew():
    """A program of its own, which JAX has not in its memory."""
    return jax.jit(lambda x: jnp.sin(x) @ x + 17).lower(jnp.ones((5, 5))).compile()


def test_a_program_is_compiled_once_and_its_folder_goes(no_cache, hits):
    with compiled_once():
        folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
        compile_anew()
        assert not hits and list(folder.iterdir())
        compile_anew()
        assert len(hits) == 1
    assert not folder.exists() and jax.config.jax_compilation_cache_dir is None
    compile_anew()
    assert len(hits) == 1


def test_what_goes_wrong_inside_leaves_no_folder(no_cache):
    with pytest.raises(ValueError, match="stop"), compiled_once():
        folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
        raise ValueError("stop")
    assert not folder.exists() and jax.config.jax_compilation_cache_dir is None


def test_the_users_own_cache_is_used_as_it_is(no_cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    with compiled_once():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_a_comparison_runs_within_it(no_cache, monkeypatch, tmp_path):
    folders = []

    def run_arms(comparison, done, at_once):
        folders.append(jax.config.jax_compilation_cache_dir)
        return {}, {}

    monkeypatch.setattr(arm_runs, "run_arms", run_arms)
    comparison = Comparison(tmp_path, parse_arms("scratch"), 1, ComparedImages("digits"), "")
    assert run_to_report(comparison, ReportTexts("", [], []), "") == {}
    assert folders != [None]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("scratch", {"model__drop_path": 0.3, "mix__mixup": 0.8}),
        ("attention_distill", {"optim__accumulate": 2}),
        ("masked_pretraining", {}),
        ("filter_vit", {"model__choose": "random"}),
    ],
)
def test_runs_with_other_seeds_are_the_same_program(name, fields):
    def program(seed):
        config = tiny_config(name, seed=seed, **fields)
        if "teacher" in config.task:
            config.task.teacher = "vit_micro_patch2"
        task = build_task(config, (8, 8, 3), 10, placeholder_loader(TEACHER))
        shapes = batch_shapes(config, (8, 8, 3))
        mesh = make_mesh(8, 1, 1)
        return trace_step(task, config, make_run_schedule(config, 100), mesh, shapes)

    one, other = (program(seed).traced.lower().as_text() for seed in (0, 2**33 + 1))
    assert one == other
