"""What can be said to a reader beyond where the data lie: the settings alone, quick to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReaderOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ViaOptions(ReaderOptions):
    """VGG Image Annotator."""

    class_attribute: str | None = Field(
        None, description="region attribute that names the class; null: the only one that is filled in"
    )
    class_name: str = Field("object", min_length=1, description="the class where regions have no attributes")
