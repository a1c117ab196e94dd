"""How fast the loader alone makes batches, with an augmentation of every kind that the tasks use.

    python -m benchmarks.loader [folder with a COCO data set] [--images 120]

Without a folder it measures on thyroid phantoms. Prints images per second in the first epoch, in which each image is
opened, and in the second, in which it comes from memory. The goal is 20 images a second on one core, several times
what a training step on 2 cores takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path

from mrcnn.config import ModelConfig
from mrcnn.data import Dataset, Loader, read_dataset
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.phantoms import write_dataset

SIZES = (256, 512)
WORKERS = (0, 1, 2)
AUGMENTATION = Augmentation(
    flip_horizontal=0.5,
    rotate_degrees=15,
    scale=0.2,
    translate=0.1,
    shear_degrees=5,
    brightness=0.1,
    contrast=0.2,
    gamma=0.2,
    blur_sigma=1,
    noise=0.03,
)


def images_per_second(dataset: Dataset, size: int, workers: int) -> tuple[float, float]:
    """Of a first and a second epoch; the start of the workers and the first batch, which waits for it, left out."""
    config = ModelConfig(class_names=dataset.class_names, image_size=size, channels=1)
    loader = Loader(dataset, config, 2, augmentation=AUGMENTATION, shuffle=True, workers=workers)
    rates = []
    for epoch in range(2):
        batches = loader.epoch(epoch)
        next(batches)
        start = time.perf_counter()
        count = sum(len(batch["image"]) for batch in batches)
        rates.append(count / (time.perf_counter() - start))
    return rates[0], rates[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a COCO data set; phantoms without")
    parser.add_argument("--images", type=int, default=120, help="how many images of it to use")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or write_dataset("thyroid", Path(scratch) / "set", images=arguments.images, seed=0)
        dataset = read_dataset(folder)
        dataset = dataset.subset(range(min(arguments.images, len(dataset))))
        # Whoever comes first would pay for the import of imgaug.
        next(Loader(dataset, ModelConfig(class_names=dataset.class_names), 1, augmentation=AUGMENTATION).epoch(0))
        instances = sum(len(record.class_ids) for record in dataset.records)
        print(f"{len(dataset)} images, {instances} instances; images per second")
        print(f"{'size':>6}{'workers':>9}{'1st epoch':>12}{'2nd epoch':>12}")
        for size, workers in product(SIZES, WORKERS):
            first, second = images_per_second(dataset, size, workers)
            print(f"{size:>6}{workers:>9}{first:>12.1f}{second:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
