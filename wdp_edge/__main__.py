"""`python -m wdp_edge` is `wdp-edge`."""

import sys

from wdp_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
