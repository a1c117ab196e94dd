"""ResUNet and ResNet classifier, trained, evaluated and tracked as Mask R-CNN is: `mrcnn baselines`."""

from experiments.commands.baselines import main

__all__ = ["main"]
