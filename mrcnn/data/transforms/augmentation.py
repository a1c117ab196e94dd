"""Define the augmentation settings, without importing imgaug."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mrcnn.errors import InputError


class Augmentation(BaseModel):
    """Define the maximum strength of each augmentation. Each image draws a random strength; 0 disables it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip_horizontal: float = Field(default=0.0, ge=0, le=1, description="probability of a left-right mirror image")
    flip_vertical: float = Field(default=0.0, ge=0, le=1, description="probability of an upside-down mirror image")
    rotate_degrees: float = Field(default=0.0, ge=0, le=180, description="largest rotation, either way")
    scale: float = Field(default=0.0, ge=0, le=0.5, description="largest change of size; 0.2 is 0.8 to 1.2 times")
    translate: float = Field(default=0.0, ge=0, le=0.5, description="largest shift, as a share of the image's side")
    shear_degrees: float = Field(default=0.0, ge=0, le=45, description="largest shear, either way, along x and along y")
    elastic: float = Field(
        default=0.0, ge=0, le=10, description="typical displacement of an elastic deformation in pixels"
    )
    brightness: float = Field(default=0.0, ge=0, le=1, description="largest value added, as a share of the value range")
    contrast: float = Field(default=0.0, ge=0, lt=1, description="largest change of contrast; 0.2 is 0.8 to 1.2 times")
    gamma: float = Field(default=0.0, ge=0, lt=1, description="largest change of the gamma exponent; 0.2 is 0.8 to 1.2")
    blur_sigma: float = Field(
        default=0.0, ge=0, le=10, description="largest standard deviation of a Gaussian blur in pixels"
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="largest standard deviation of Gaussian noise, as a share of the value range",
    )
    invert: float = Field(default=0.0, ge=0, le=1, description="probability of exchanging black and white")
    # Must stay the last field: the random numbers depend on the positions of the fields.
    flip_swaps: tuple[tuple[str, str], ...] = Field(
        default=(),
        description="pairs of classes that change places in a left-right mirror image, such as [[left_lung, "
        "right_lung]]; upside down they keep them, for a class tells the side of the picture",
    )

    @model_validator(mode="after")
    def _check(self) -> Augmentation:
        named = [name for pair in self.flip_swaps for name in pair]
        if len(set(named)) != len(named):
            raise ValueError(f"flip_swaps={[list(pair) for pair in self.flip_swaps]}: expected each class once")
        return self

    @property
    def flips(self) -> tuple[str, ...]:
        """Enabled flips, by their names in test-time augmentation."""
        return tuple(name for name in ("horizontal", "vertical") if getattr(self, f"flip_{name}") != 0)

    def mirrored_ids(self, class_names: Sequence[str]) -> np.ndarray:
        """Return (K + 1,) int32 the class id after a left-right flip of each class id, including 0.

        Raises:
            InputError: `flip_swaps` names an unknown class.
        """
        ids = np.arange(len(class_names) + 1, dtype=np.int32)
        for pair in self.flip_swaps:
            for name in pair:
                if name not in class_names:
                    raise InputError(f"augment.flip_swaps: no class {name!r}; expected {', '.join(class_names)}")
            first, second = (class_names.index(name) + 1 for name in pair)
            ids[[first, second]] = second, first
        return ids
