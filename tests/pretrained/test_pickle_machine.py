"""A pickle is read, and nothing in it is done."""

import collections
import pickle
import struct
import tracemalloc

import pytest

from tests.pretrained.torch_archive import name, number, text
from vit_jax_xfer.pretrained.lazy_arrays import RefusedFile, Unbuilt
from vit_jax_xfer.pretrained.pickle_machine import PickleMachine
from vit_jax_xfer.pretrained.pickled_values import BUILDERS


def load(data):
    def persistent(identity):
        raise ValueError("a persistent id")

    return PickleMachine(data, BUILDERS, persistent).load()


VALUES = [
    None,
    True,
    -1,
    255,
    65_536,
    2**31,
    -(2**70),
    1.5,
    "",
    "é" * 300,
    b"",
    b"ab" * 300,
    (),
    (1,),
    (1, 2, 3, 4),
    [],
    list(range(2000)),
    {},
    {"a": [1, {"b": (2, None)}], 3: "c", None: 1.5, (1, "d"): 2},
    {1, "a"},
    frozenset([1.5]),
    1 + 2j,
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_values(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_shared_and_ordered(protocol):
    shared = [1]
    found = load(pickle.dumps([shared, shared, collections.OrderedDict(a=1, b=2)], protocol))
    assert found == [[1], [1], {"a": 1, "b": 2}] and found[0] is found[1]
    circle = []
    circle.append(circle)
    found = load(pickle.dumps(circle, protocol))
    assert found[0] is found


def test_pickles_of_python_2():
    strings = b"U\x02ab" + b"T" + struct.pack("<i", 1) + b"\xff"
    assert load(b"\x80\x02" + strings + b"\x86.") == ("ab", "\xff")
    called = name("__builtin__", "set") + b"](" + number(1) + b"e\x85R"
    assert load(b"\x80\x02" + called + b".") == {1}


HARMFUL = [
    ("builtins", "eval"),
    ("__builtin__", "exec"),
    ("builtins", "getattr"),
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("importlib", "import_module"),
    ("os.path", "exists"),
]


@pytest.mark.parametrize("opcode", [b"R", b"\x81"])
@pytest.mark.parametrize(("module", "attribute"), HARMFUL)
def test_what_could_do_harm_is_refused_by_name(module, attribute, opcode):
    called = name(module, attribute) + text("1/0") + b"\x85" + opcode
    with pytest.raises(RefusedFile, match=f"objects other than arrays .*{attribute}"):
        load(b"\x80\x02" + called + b".")


def test_nothing_that_is_named_is_called():
    """Neither by a name alone, nor with arguments, state or items; nor is a module imported."""
    known = name("antigravity", "Flight")
    state = known + b")\x81}" + text("a") + number(1) + b"sb"
    items = known + b")R(" + number(1) + number(2) + b"e(" + text("k") + number(3) + b"u"
    for called in (known, known + b")R", state, items, known + b")}\x92"):
        found = load(b"\x80\x02" + called + b".")
        assert isinstance(found, Unbuilt) and found.name == "antigravity.Flight"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"\x80",
        b"X\xff\xff\xff\xffab.",
        b"\x8d" + struct.pack("<Q", 2**62) + b"ab.",
        b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"ab.",
        b"T\xff\xff\xff\xffab.",
        b"cos\nsystem",
        b"h\x05.",
        b"r\xff\xff\xff\xff.",
        b"t.",
        b"\x87.",
        b"K\x01)R.",
        b"}K\x01s.",
        b"]K\x01u.",
        b"}(]K\x01u.",
        b"}(" + b"\x8a\xff" + b"\x01" * 255 + b"Nu.",
        b"I1\n.",
        b"i\xff.",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        b"cbuiltins\nset\nK\x01\x85R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    ],
)
def test_rubbish_ends_at_once(data):
    tracemalloc.start()
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the reader makes one line of any)
        load(data)
    assert not isinstance(caught.value, MemoryError | RecursionError)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("head", [b"X\xff\xff\xff\xff", b"\x8d" + bytes([255] * 8), b"C\x09"])
def test_lengths_beyond_the_end(head):
    with pytest.raises(ValueError, match="truncated in a pickle, at byte"):
        load(head + b"ab.")


def test_keys_that_take_forever_are_refused():
    """A tuple of a tuple twice, forty deep: short to write, and 2⁴⁰ steps to hash."""
    nested = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(40))
    with pytest.raises(ValueError, match="a tuple as a key"):
        load(b"\x80\x02}" + nested + b"Ns.")
    with pytest.raises(ValueError, match="a tuple as a key"):
        load(b"\x80\x02" + name("builtins", "set") + b"]" + nested + b"a\x85R.")


def test_a_pickle_has_so_many_steps(monkeypatch):
    monkeypatch.setattr("vit_jax_xfer.pretrained.pickle_machine._MOST_STEPS", 100)
    assert load(b"\x80\x02" + b"N" * 98 + b".") is None
    with pytest.raises(ValueError, match="more than 100 steps"):
        load(b"\x80\x02" + b"N" * 99 + b".")
