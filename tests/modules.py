"""The modules in the documentation, as if their packages had been installed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

EXAMPLES: Final = Path(__file__).parents[1] / "docs" / "examples"
ENTRY_POINTS: Final = """\
[caetun.auth]
hours = caetun_hours:make
lost = caetun_lost:make
[caetun.compression]
zlib = caetun_zlib:METHOD
lost = caetun_lost:METHOD
[caetun.transports]
rawip = caetun_rawip:TRANSPORT
[caetun.mangle]
tidy = caetun_tidy:tidy
lost = caetun_lost:rule
broken = caetun_tidy:nothing
"""


def install(directory: Path) -> list[str]:
    """Write what an installer would; returns the directories that belong on PYTHONPATH."""
    information = directory / "caetun_examples-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: caetun-examples\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return [str(directory), str(EXAMPLES)]
