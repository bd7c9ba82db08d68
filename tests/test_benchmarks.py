"""`make bench` fails if what it runs does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "run.sh"


def test_a_comparison_that_breaks_is_seen(tmp_path: Path) -> None:
    peers = tmp_path / "peers.py"
    peers.write_text(
        "import sys\nprint('with', *sys.argv)\n"
        "if '--no-offload' not in sys.argv: sys.exit('peers: tunnel did not come up')\n"
    )
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "PEERS": str(peers), "PYTHON": "true", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "tunnel did not come up" in done.stderr
    assert done.stdout.count("\nwith ") == 2, "the second one is measured all the same"
    assert list(tmp_path.iterdir()) == [peers], "nothing is left"
