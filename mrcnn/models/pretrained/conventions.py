"""Choose the conventions by which a configuration's network works."""

from __future__ import annotations

from mrcnn.config import ModelConfig
from mrcnn.models.mask_rcnn.conventions import PaperConventions
from mrcnn.models.pretrained.matterport import MatterportConventions
from mrcnn.models.pretrained.torchvision import TorchvisionConventions

_CONVENTIONS = {
    "paper": PaperConventions,
    "matterport": MatterportConventions,
    "torchvision": TorchvisionConventions,
}


def make_conventions(config: ModelConfig) -> PaperConventions:
    """Return the conventions that `config.conventions` names."""
    return _CONVENTIONS[config.conventions](config)
