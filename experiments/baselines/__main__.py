"""`python -m experiments.baselines`."""

import sys

from experiments.baselines.command import main

if __name__ == "__main__":
    sys.exit(main())
