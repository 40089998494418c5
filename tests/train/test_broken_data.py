"""Images that break while a run goes on: named, counted in its rows, and at last its end, saved."""

import json

import pytest

from tests.runs import assert_close_rows, half_way, rows, shared_program, tiny_config
from vit_jax_xfer.data.broken_images import BrokenImage, TooManyBroken
from vit_jax_xfer.data.sources.arrays import ArraySource
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train import loop


@pytest.fixture(scope="module", autouse=True)
def one_program():
    with shared_program():
        yield


@pytest.fixture
def damaged(monkeypatch):
    """Of the digits to train on every ninth can't be read, of those to evaluate on the fourth."""
    whole = ArraySource.__getitem__

    def read(source, index):
        if index % 9 == 0 if source.name == "digits/train" else index == 3:
            raise BrokenImage(f"{source.name}/{index}.png", "it is cut off")
        return whole(source, index)

    monkeypatch.setattr(ArraySource, "__getitem__", read)


def config_of(**fields):
    return tiny_config("scratch", steps=4, data__per_class=0, checkpoint__every=2, **fields)


def test_a_run_skips_counts_and_goes_on_alike(damaged, tmp_path, capsys):
    config = config_of(data__max_broken=20, checkpoint__keep_last=9)
    result = loop.run(config, tmp_path / "run")
    assert result["finished"] and result["metrics"]["broken"] == 1
    counts = [row[2].get("broken") for row in rows(tmp_path / "run") if row[1] == "train"]
    assert counts == sorted(counts) and 0 < counts[0] < counts[-1] < 20
    said = capsys.readouterr().out
    named = [line for line in said.splitlines() if line.startswith("cannot read image digits/tr")]
    assert len(named) == len(set(named)) == counts[-1]
    assert "cannot read image digits/test/3.png: it is cut off; it is in no figure" in said
    resumed = half_way(tmp_path / "run", tmp_path / "resumed", 2)
    loop.run(config, resumed)
    assert_close_rows(resumed, tmp_path / "run", tolerance=0)


def test_one_too_many_ends_it_with_a_checkpoint(damaged, tmp_path):
    allowed = 3
    with pytest.raises(TooManyBroken, match="makes 4, and data.max_broken allows 3"):
        loop.run(config_of(data__max_broken=allowed), tmp_path)
    done = [row[0] for row in rows(tmp_path) if row[1] == "train"]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] == done[-1] + 1 > 0
        extra = checkpoints.extra(done[-1] + 1)
    assert len(extra["broken"][0]) <= allowed
    with pytest.raises(TooManyBroken):  # no other count after a restart
        loop.run(config_of(data__max_broken=allowed), tmp_path)
    assert [row[0] for row in rows(tmp_path) if row[1] == "train"] == done
    json.dumps(extra)
    assert loop.run(config_of(data__max_broken=20), tmp_path)["finished"]  # as the line advises
