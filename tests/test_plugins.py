"""Modules of other packages: found, and loaded with one kind of error."""

from importlib.metadata import EntryPoint

import pytest

from caetun import plugins


def entry(value: str) -> EntryPoint:
    """An entry point of that value."""
    return EntryPoint("mine", value, "caetun.transports")


def test_what_it_names_is_loaded() -> None:
    assert plugins.load(entry("caetun.transports.tcp:TCP")) is plugins.built_in("caetun.transports.tcp:TCP")


def test_entry_points_are_found_by_name() -> None:
    # pytest's own plug-ins are there wherever these tests run.
    found = plugins.added("pytest11")
    assert found
    assert all(name == point.name for name, point in found.items())


def test_a_group_that_nobody_fills_is_empty() -> None:
    assert plugins.added("caetun.no-such-group") == {}


@pytest.mark.parametrize(
    ("value", "said", "missing"),
    [
        ("no_such_package:THING", "no_such_package", "no_such_package"),
        ("caetun.types:NO_SUCH_NAME", "AttributeError: .*NO_SUCH_NAME", None),
    ],
)
def test_what_cannot_be_loaded_is_an_import_error(value: str, said: str, missing: str | None) -> None:
    with pytest.raises(ImportError, match=said) as caught:
        plugins.load(entry(value))
    assert caught.value.name == missing


def test_a_module_that_fails_while_it_is_read_is_an_import_error(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("package")
    (place / "caetun_broken_plugin.py").write_text("THING = 1 / 0\n")
    monkeypatch.syspath_prepend(place)
    with pytest.raises(ImportError, match="ZeroDivisionError: division by zero"):
        plugins.load(entry("caetun_broken_plugin:THING"))
