"""The garbage collector is paused as long as anybody wants it, and comes back."""

from __future__ import annotations

import gc

import pytest

from comfydeploy_jupyter.collection import paused


def test_it_comes_back_after_the_last():
    assert gc.isenabled()
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="any"), paused():
        raise ValueError("any")
    assert gc.isenabled()


def test_what_was_switched_off_stays_off():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
