"""Modules by name, and those of other packages."""

from __future__ import annotations

import importlib.metadata
from unittest.mock import patch

import pytest

from caetun.auth.registry import Means, make_chain
from caetun.errors import ConfigurationError
from tests.auth.test_base import Says

NOTHING = Means(None, None, None, False)


def test_a_module_of_another_package() -> None:
    entry = importlib.metadata.EntryPoint("says", "tests.auth.test_registry:make", "caetun.auth")
    with patch("importlib.metadata.entry_points", return_value=(entry,)):
        first, second = make_chain(["key", "says"], NOTHING)
        assert (first.name, second.name) == ("key", "says")
        with pytest.raises(ConfigurationError, match=r"tuesday: no such module: there are key, .*, command, says"):
            make_chain(["tuesday"], NOTHING)


def make() -> Says:
    return Says("alice")
