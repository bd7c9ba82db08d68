"""`python -m caetun`: the same as the `caetun` command."""

from __future__ import annotations

import sys

from caetun.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
