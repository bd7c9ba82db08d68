"""Keeps the C library from giving memory back to the kernel that the next burst needs again.

glibc returns the free end of its heap as soon as that is 128 KiB long (mallopt(3), M_TRIM_THRESHOLD). A burst of
records of 64 KiB, unmasked or opened into objects of their own, is freed at once: so each would fault its memory in
anew, page by page, which costs more than all we do with it (WebSocket links: 5 Gbit/s instead of 20).
"""

from __future__ import annotations

import ctypes
from typing import Final

# fixed by the C library (malloc.h)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

# chosen by us
KEPT: Final = 16 << 20
"""Bytes of free heap that are kept: what a dozen bursts of a megabyte turn into on their way through a process."""
_FROM_HEAP: Final = 2 << 20
"""Bytes from which on an allocation is a mapping of its own: more than any burst needs in one piece."""

_done = False


def keep_freed_memory() -> None:
    """Keep up to KEPT bytes of freed memory, in the whole process. Once is enough; nothing where libc is not glibc."""
    global _done
    if _done:
        return
    _done = True
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP)
