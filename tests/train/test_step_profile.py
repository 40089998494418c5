"""--profile: which steps, and a trace that TensorBoard and Perfetto open."""

import gzip
import json

import pytest

from tests.runs import tiny_config
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.step_profile import ProfiledSteps, StepProfile, profiled_steps


def test_what_the_flag_says():
    assert profiled_steps("5") == ProfiledSteps(5)
    assert profiled_steps("100:105") == ProfiledSteps(5, 100)
    for text in ("", "0", "5:5", "7:5", "-1", "a", "1:", ":3", "1:2:3"):
        with pytest.raises(ValueError, match=r"^--profile: .*; write --profile=5, or"):
            profiled_steps(text)


@pytest.mark.parametrize(
    ("wanted", "start", "total", "steps"),
    [
        (ProfiledSteps(5), 0, 100, range(2, 7)),
        (ProfiledSteps(5), 40, 100, range(42, 47)),
        (ProfiledSteps(5), 0, 6, range(1, 6)),  # the whole of them before the warm-up
        (ProfiledSteps(5), 0, 3, range(3)),
        (ProfiledSteps(5, 10), 12, 100, range(12, 15)),
        (ProfiledSteps(5, 10), 15, 100, range(0)),  # gone by
        (ProfiledSteps(5, 10), 0, 10, range(0)),  # never reached
    ],
)
def test_steps_that_are_left(wanted, start, total, steps):
    assert list(wanted.within(start, total)) == list(steps)


def steps_in(folder):
    """Numbers of the steps in Perfetto's trace, which waits for the device have no part in."""
    (path,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert len(list(path.parent.glob("*.xplane.pb"))) == 1  # what TensorBoard reads
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    return sorted(int(e["args"]["step_num"]) for e in events if e.get("name") == "train")


def test_a_run_traces_its_steps_and_says_where(tmp_path, capsys):
    config = tiny_config("scratch")
    assert loop.run(config, tmp_path, profile=ProfiledSteps(2, 1))["finished"]
    assert steps_in(tmp_path / "profile") == [1, 2]
    assert f"profile of the steps 1 to 2: {tmp_path}/profile/plugins/" in capsys.readouterr().out


def test_a_run_that_is_past_its_steps_says_so(tmp_path, capsys):
    with StepProfile(ProfiledSteps(2, 1), tmp_path, 3, 9) as tracing:
        tracing.begin(3, {})
        tracing.end_before(4, {})
    assert "--profile: none of these steps is left" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
