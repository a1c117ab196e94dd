"""Random changes of a sample that leave its diagnosis as it is; image and masks only, boxes follow from the masks."""

from __future__ import annotations

import numpy as np

from mrcnn.data.augmentation import Augmentation
from mrcnn.data.sample import Sample


def augment(
    sample: Sample, augmentation: Augmentation, rng_seed: tuple[int, int, int], mirrored_ids: np.ndarray | None = None
) -> Sample:
    """The sample, changed at random by imgaug; the same seed gives the same result wherever and whenever.

    Pixels that come from outside the image are its darkest value, in floats that of each channel. Instances of which
    less than a tenth, or fewer than 4 pixels (unless they had fewer before), remain are dropped.

    Args:
        rng_seed: (seed, epoch, index of the sample), each 0 or more.
        mirrored_ids: what each class id becomes in a left-right mirror image (`Augmentation.mirrored_ids`); None where
            no class tells a side.
    """
    # imgaug takes a second to import, which who only reads the settings should not wait for.
    from mrcnn.data import augmenters

    return augmenters.change(sample, augmentation, rng_seed, mirrored_ids)
