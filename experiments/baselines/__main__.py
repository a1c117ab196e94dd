"""`python -m experiments.baselines`."""

import sys

from experiments.commands.baselines import main

if __name__ == "__main__":
    sys.exit(main())
