"""Run `mrcnn train` as a module: `python -m experiments.train --task thyroid`.

Nothing imports this module, because `experiments.train` is the function of the Python API.
"""

import sys

from experiments.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
