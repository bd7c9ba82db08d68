"""What tests of transports share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from tests.transports.places import listening, refused, silent  # noqa: F401 (fixtures, shared by importing them)
from tests.transports.udp_ends import ANY4, End, Two

# Property tests here are judged by their result, not by how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Two ends on the loopback interface."""
    made = Two(End(*ANY4), End(*ANY4))
    yield made
    made.close()
