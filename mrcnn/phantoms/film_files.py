"""Chest films with masks that name no side, in the form in which public sets have them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mrcnn.data.sample import Sample


def write_film_files(samples: Iterable[Sample], folder: Path) -> None:
    """Writes `images/`, `masks/` (one mask of all lungs, 0 and 255) and `index.csv` into an existing, empty folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "patient_id", "view"])
        for sample in samples:
            image, mask = f"images/{sample.source}", f"masks/{sample.source}"
            Image.fromarray(sample.image[..., 0]).save(folder / image)
            Image.fromarray(sample.masks.any(axis=0).astype(np.uint8) * 255).save(folder / mask)
            table.writerow([image, mask, sample.patient_id, "PA"])
