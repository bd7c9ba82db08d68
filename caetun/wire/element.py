"""Elements: the pieces of a container, each a head and a body (docs/wire.md, section 4).

 0        1        2        3
+--------+--------+--------+--------+
|  kind  |      length of body      |
+--------+--------+--------+--------+
|  body ...                         |
+-----------------------------------+
"""

from __future__ import annotations

import struct
from typing import Final

# fixed by the specification: docs/wire.md, section 4
PADDING: Final = 0
FRAME: Final = 1
FRAME_CHECKSUM: Final = 2
SUPERFRAME: Final = 3
SEGMENT: Final = 4
FRAGMENT: Final = 5
CONTROL: Final = 6
COMPRESSED: Final = 7

HEAD: Final = struct.Struct(">I")
"""Kind and length of the body in one integer: `kind << 24 | length`."""
SEGMENT_FIELDS: Final = struct.Struct(">IHHH")
"""Superframe id, offset, total, header length; then come virtio_net_hdr (10), headers and payload (4.1)."""
FRAGMENT_FIELDS: Final = struct.Struct(">IHH")
"""Frame id, offset, total; then come the bytes (4.2)."""
