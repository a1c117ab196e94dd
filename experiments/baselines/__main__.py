"""Run `mrcnn baselines` as a module: `python -m experiments.baselines --task lgg`."""

import sys

from experiments.commands.baselines import main

if __name__ == "__main__":
    sys.exit(main())
