"""Memory that is used again and again is not fetched from the kernel each time."""

from __future__ import annotations

import os
import platform
import resource

import pytest

from caetun.daemon.heap import keep_freed_memory

ROUNDS = 50
RECORDS = 16
RECORD = 65_552


def faults() -> int:
    """Pages that the kernel had to find for this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_burst_finds_the_memory_of_the_one_before() -> None:
    keep_freed_memory()
    keep_freed_memory()
    record = os.urandom(RECORD)
    pages = ROUNDS * RECORDS * RECORD // 4096
    before = 0
    for number in range(ROUNDS + 2):
        if number == 2:
            before = faults()
        burst = [record[1:] for _ in range(RECORDS)]
        del burst
    assert faults() - before < pages // 10
