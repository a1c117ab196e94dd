"""ResUNet and ResNet classifier, trained, evaluated and tracked on the same road as Mask R-CNN: `mrcnn baselines`."""

from experiments.commands.baselines import main

__all__ = ["main"]
