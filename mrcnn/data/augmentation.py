"""How strongly training images are changed: the settings alone, quick to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel):
    """How strongly training images are changed. Each image draws its own strength up to these; 0 leaves it out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip_horizontal: float = Field(0.0, ge=0, le=1, description="probability of a left-right mirror image")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="probability of an upside-down mirror image")
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="largest rotation, either way")
    scale: float = Field(0.0, ge=0, le=0.5, description="largest change of size; 0.2 is 0.8 to 1.2 times")
    translate: float = Field(0.0, ge=0, le=0.5, description="largest shift, as a share of the image's side")
    shear_degrees: float = Field(0.0, ge=0, le=45, description="largest shear, either way, along x and along y")
    elastic: float = Field(0.0, ge=0, le=10, description="typical displacement of an elastic deformation in pixels")
    brightness: float = Field(0.0, ge=0, le=1, description="largest value added, as a share of the value range")
    contrast: float = Field(0.0, ge=0, lt=1, description="largest change of contrast; 0.2 is 0.8 to 1.2 times")
    gamma: float = Field(0.0, ge=0, lt=1, description="largest change of the gamma exponent; 0.2 is 0.8 to 1.2")
    blur_sigma: float = Field(0.0, ge=0, le=10, description="largest standard deviation of a Gaussian blur in pixels")
    noise: float = Field(
        0.0, ge=0, le=1, description="largest standard deviation of Gaussian noise, as a share of the value range"
    )
