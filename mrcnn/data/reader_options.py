"""Define the options of each reader, without importing the readers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ReaderOptions(BaseModel):
    """Define the base class of reader options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VolumesOptions(ReaderOptions):
    """Define options of the volume reader."""

    layout: Literal["auto", "described", "pattern", "pairs", "dicom", "brats"] = Field(
        default="auto",
        description="described: dataset.json of nnU-Net or the Decathlon; pattern: images and labels; pairs: "
        "NIfTI files by name; dicom: series with segmentations or structure sets; brats: cases named as in BraTS; "
        "auto: detected",
    )
    images: dict[str, str] | None = Field(
        default=None,
        description="pattern of the files of each channel, such as {ct: '{case}/ct.nii.gz'}; null: by name",
    )
    labels: str | None = Field(
        default=None, description="pattern of the label maps, such as '{case}/seg.nii.gz'; null: by name"
    )
    modalities: tuple[str, ...] | None = Field(
        default=None, description="channels in their order, by name; null: all (brats: those that every case has)"
    )
    classes: dict[str, int | str | tuple[int | str, ...]] | None = Field(
        default=None,
        description="values in the label map, or names of segments, of each class, such as {liver: [1, 2], tumor: 2}; "
        "null: those of dataset.json, or each value or name",
    )
    slice_instances: Literal["pieces", "values", "classes"] = Field(
        default="pieces",
        description="what is one instance in a slice: each connected component of a class, each value above 0 (all of "
        "one class), or all that a class covers",
    )
    min_area: int = Field(default=10, ge=1, description="pixels of the smallest instance")
    plane: Literal["auto", "axial", "coronal", "sagittal"] = Field(
        default="auto", description="plane of the slices; auto: the one of the finest pixels, axial if all are alike"
    )
    window: tuple[float, float] | None = Field(
        default=None, description="center and width of the intensities that are shown, for CT in Hounsfield units"
    )
    scaling: Literal["auto", "percentiles", "zscore", "none"] = Field(
        default="auto",
        description="without window: percentiles 0.5 and 99.5 of each volume become 0 and 255, or mean 0 and variance "
        "1 over its foreground, which needs model.normalisation=none; none: 2-D images and frames as they are; auto: "
        "zscore for brats, none for 2-D, else percentiles",
    )
    label_codes: (
        Literal["brats2013", "brats2018", "brats2023", "brats2024", "brats2024_ped", "brats2024_men_rt", "msd"] | None
    ) = Field(
        default=None, description="of brats, meaning of the labels; null: inferred from names and values of the cases"
    )

    @model_validator(mode="after")
    def _check(self) -> VolumesOptions:
        if self.window is not None and (self.scaling != "auto" or not self.window[1] > 0):
            raise ValueError(f"window={list(self.window)}: expected a width above 0, and scaling=auto")
        if self.slice_instances == "values" and self.classes is not None and len(self.classes) > 1:
            raise ValueError(
                "slice_instances=values: expected a single one of classes, since values are no classes then"
            )
        return self


class ViaOptions(ReaderOptions):
    """Define options of the VGG Image Annotator reader."""

    class_attribute: str | None = Field(
        default=None, description="region attribute that names the class; null: the only one that is filled in"
    )
    class_name: str = Field(default="object", min_length=1, description="the class where regions have no attributes")


class CsvOptions(ReaderOptions):
    """Define options of the reader of CSV tables."""

    pixel_order: Literal["auto", "columns", "rows"] = Field(
        default="auto",
        description="order of the pixels that run lengths count: down the columns, or along the rows; auto: inferred "
        "from the runs, else columns for EncodedPixels",
    )


class MasksOptions(ReaderOptions):
    """Define options of the mask folder reader."""

    instances: Literal["pieces", "values", "classes"] = Field(
        default="pieces",
        description="what is one instance of a mask: each connected piece of a class, each value above 0 (all of the "
        "one class), or all that a class covers; of several masks of one image each is one instance",
    )
    class_names: tuple[str, ...] = Field(
        default=("object",),
        min_length=1,
        description="classes of the values 1, 2, …; a single one stands for all above 0",
    )
    mask_suffix: str | None = Field(
        default=None,
        min_length=1,
        description="suffix of the names of masks, as in a_mask.png; null: _mask, -seg, _label, mask_ and the like",
    )
    class_folders: bool | None = Field(
        default=None,
        description="whether folders are classes, as benign/ and malignant/; null: if two to twenty folders beside "
        "splits hold two or more images each and have no digits in their names, or the masks of an image lie in "
        "several",
    )

    @model_validator(mode="after")
    def _check(self) -> MasksOptions:
        if self.instances == "values" and len(self.class_names) > 1:
            raise ValueError("instances=values: expected a single one of class_names, since values are no classes then")
        return self
