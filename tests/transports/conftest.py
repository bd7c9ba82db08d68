"""What tests of transports share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.transports.places import listening, refused, silent  # noqa: F401 (fixtures, shared by importing them)
from tests.transports.udp_ends import ANY4, End, Two


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Two ends on the loopback interface."""
    made = Two(End(*ANY4), End(*ANY4))
    yield made
    made.close()
