"""What tests of devices share."""

from __future__ import annotations

import pytest

from caetun.lab import Lab
from tests.devices.machine import Machine


@pytest.fixture
def machine(lab: Lab) -> Machine:
    return Machine(lab)
