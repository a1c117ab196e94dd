"""Run `mrcnn train` as a module: `python -m experiments.train --task thyroid`."""

import sys

from experiments.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
