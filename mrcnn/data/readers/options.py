"""Define the options of each reader, without importing the readers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ReaderOptions(BaseModel):
    """Define the base class of reader options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BratsOptions(ReaderOptions):
    """Define options of the BraTS reader."""

    modalities: tuple[Literal["flair", "t1", "t1ce", "t2"], ...] | None = Field(
        None, description="of brats, the channels in their order; null: those that every case has"
    )
    label_codes: (
        Literal["brats2013", "brats2018", "brats2023", "brats2024", "brats2024_ped", "brats2024_men_rt", "msd"] | None
    ) = Field(None, description="of brats, what its labels mean; null: told from the cases' names and values")
    min_area: int = Field(10, ge=1, description="of brats, pixels of the smallest piece that is an instance")


class ViaOptions(ReaderOptions):
    """Define options of the VGG Image Annotator reader."""

    class_attribute: str | None = Field(
        None, description="region attribute that names the class; null: the only one that is filled in"
    )
    class_name: str = Field("object", min_length=1, description="the class where regions have no attributes")


class MasksOptions(ReaderOptions):
    """Define options of the mask folder reader."""

    instances: Literal["pieces", "values", "classes"] = Field(
        "pieces",
        description="what is one instance of a mask: each connected piece of a class, each value above 0 (all of the "
        "one class), or all that a class covers; of several masks of one image each is one instance",
    )
    class_names: tuple[str, ...] = Field(
        ("object",), min_length=1, description="classes of the values 1, 2, …; a single one stands for all above 0"
    )
    mask_suffix: str | None = Field(
        None,
        min_length=1,
        description="suffix of the names of masks, as in a_mask.png; null: _mask, -seg, _label, mask_ and the like",
    )
    class_folders: bool | None = Field(
        None,
        description="whether folders are classes, as benign/ and malignant/; null: if two to twenty folders beside "
        "splits hold two or more images each and have no digits in their names",
    )

    @model_validator(mode="after")
    def _check(self) -> MasksOptions:
        if self.instances == "values" and len(self.class_names) > 1:
            raise ValueError("instances=values: expected a single one of class_names, since values are no classes then")
        return self
