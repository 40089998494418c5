"""The sweep's verdicts, on one small network whose library is this project itself."""

import numpy as np

import vit_jax_xfer as vjx
from benchmarks.loading_sweep import Case, check, table
from tests.pretrained.timm_names import state_dict

HEAD = {"head.weight": None, "head.bias": None}


def case(state, change=0.0):
    """A case whose library computes what we do, but for `change`; its folder is empty."""
    model, variables = vjx.load_pretrained(state_dict(width=192, **HEAD))
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    out = vjx.extract(model, variables, images)
    found = {"result": np.asarray(out.pooled) + change, "tokens": np.asarray(out.tokens)}
    return Case("small", state, images, lambda images: found, lambda folder: None)


def test_what_is_said_of_a_network():
    state = state_dict(width=192, **HEAD)
    wrong = {**state, "norm.weight": state["norm.weight"] + 1}
    found = [
        check(case(state))[0],
        check(case(state, change=1.0))[0],
        check(case(wrong))[0],
        check(case({"other": np.ones(3)}))[0],
    ]
    assert [one.kind for one in found] == ["exact", "tokens", "WRONG", "refused"]
    assert "tokens by" in found[2].said and "fit no family" in found[3].said
    lines = table([("small", found[0], found[3])]).splitlines()
    assert lines[-1].startswith("| small | exact | refused the file's names")


def test_what_loads_and_cannot_be_compared_is_wrong():
    def outputs(images):
        raise TypeError("missing 1 required positional argument: 'grid_thw'")

    found = check(case(state_dict(width=192, **HEAD))._replace(outputs=outputs))[0]
    assert found.kind == "WRONG" and "can't be compared" in found.said
