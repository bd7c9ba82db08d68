"""What tests and conformance tests share: the Lab, and tests that say what they need of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from caetun.errors import HostError
from caetun.lab import Lab, become_root, needs

# Property tests are judged by their result, not by how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
_no_root = ""


def pytest_configure() -> None:
    """Become root of a user namespace when run by an ordinary user, before anything starts a thread."""
    global _no_root
    try:
        become_root()
    except HostError as error:
        _no_root = str(error)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run: `@pytest.mark.needs("namespaces", "tun")`."""
    features = [feature for mark in item.iter_markers("needs") for feature in mark.args]
    if reason := needs(*features):
        pytest.skip("; ".join(filter(None, [reason, _no_root])))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty Lab; its test is skipped where there can be none."""
    if reason := needs("namespaces"):
        pytest.skip("; ".join(filter(None, [reason, _no_root])))
    with Lab() as lab:
        yield lab
