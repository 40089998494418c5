"""Notes: warnings to a program, plain lines to who runs a command."""

import warnings

import pytest

from vit_jax_xfer.pretrained.loading_notes import LoadingNote, note, notes_on_stderr


def test_a_note_is_a_warning_of_its_own_kind():
    with pytest.warns(LoadingNote, match="^pos_embed: read as 2×8$"):
        note("pos_embed: read as 2×8")


def test_a_command_says_it_plainly_and_each_time(capsys):
    with pytest.warns(UserWarning, match="^another$") as others, notes_on_stderr():
        for _ in range(2):
            note("head: 3 classes left out")
        warnings.warn("another", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "note: head: 3 classes left out\n" * 2
    assert len(others) == 1
