"""Benchmarks are run from the project's folder and are not installed: let tests import them whatever the command."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
