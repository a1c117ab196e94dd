"""Measure the speed of reading slices of BraTS volumes, and the memory for 300 cases.

    python -m benchmarks.volumes [folder of cases] [--cases 300] [--slices 400] [--workers 1]

The cases of the folder (default: phantoms) are multiplied under new names by hard links (copies if the disk has none)
up to the requested number. Measured:

- seconds to read all cases; seconds to make the cache of one, which is keyed by content, so that copies share it;
- slices per second in random order: from the compressed files, from the cache, and as batches;
- the peak resident memory of the process that reads all cases and opens the slices, and of the loader's worker, which
  also caches opened slices (at most 1 GiB). Their sum is the memory of the data of a training; the goal is 2 GiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from mrcnn.config import ModelConfig
from mrcnn.data import Dataset, Loader, read_dataset
from mrcnn.data.io.nifti import open_nifti
from mrcnn.phantoms import write_dataset

UNCACHED = 12
"""Slices opened from the compressed files; each takes some tenths of a second."""


def multiply(source: Path, folder: Path, cases: int) -> None:
    """Fill `folder` with `cases` cases, repeating the folders in `source`."""
    found = sorted(path for path in source.iterdir() if path.is_dir())
    for number in range(cases):
        case = found[number % len(found)]
        (folder / f"copy{number:03d}_{case.name}").mkdir()
        for file in case.iterdir():
            place = folder / f"copy{number:03d}_{case.name}" / file.name
            try:
                os.link(file, place)
            except OSError:
                shutil.copyfile(file, place)


def uncached(dataset: Dataset, chosen: np.ndarray) -> float:
    """Measure slices per second from the compressed files, read up to the slice by nibabel."""
    start = time.perf_counter()
    for index in chosen[:UNCACHED]:
        record = dataset.records[index]
        for file in record.volume.files:
            np.asarray(open_nifti(file).image.dataobj[..., record.place.index])
    return min(UNCACHED, len(chosen)) / (time.perf_counter() - start)


def seconds_to_cache(dataset: Dataset) -> float:
    """Measure the seconds per volume, by reading its first slice."""
    first = {record.volume.digest: index for index, record in enumerate(dataset.records)}
    start = time.perf_counter()
    for index in first.values():
        dataset[index]
    return (time.perf_counter() - start) / len(first)


def opened(dataset: Dataset, chosen: np.ndarray) -> float:
    """Measure samples per second."""
    start = time.perf_counter()
    for index in chosen:
        dataset[index]
    return len(chosen) / (time.perf_counter() - start)


def loaded(dataset: Dataset, chosen: np.ndarray, workers: int) -> float:
    """Measure samples per second in batches of two, without the first batch, which waits for the workers to start."""
    config = ModelConfig(class_names=dataset.class_names, image_size=256, channels=dataset[0].image.shape[2])
    batches = Loader(dataset.subset(chosen), config, 2, workers=workers).epoch(0)
    next(batches)
    start = time.perf_counter()
    return sum(len(batch["image"]) for batch in batches) / (time.perf_counter() - start)


def peak(who: int) -> float:
    """Return the peak resident memory in MiB."""
    return resource.getrusage(who).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="BraTS cases, a folder each; phantoms without")
    parser.add_argument("--cases", type=int, default=300, help="how many to make of them")
    parser.add_argument("--slices", type=int, default=2500, help="how many to open, at random")
    parser.add_argument("--workers", type=int, default=1, help="processes of the loader")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MRCNN_CACHE"] = str(Path(scratch) / "cache")
        source = arguments.folder or write_dataset("brats", Path(scratch) / "phantoms", images=12, seed=0)
        (Path(scratch) / "cases").mkdir()
        multiply(source, Path(scratch) / "cases", arguments.cases)
        start = time.perf_counter()
        dataset = read_dataset(Path(scratch) / "cases", "volumes")
        print(f"{arguments.cases} cases, {len(dataset)} slices, read in {time.perf_counter() - start:.0f} s")
        chosen = np.random.default_rng(0).permutation(len(dataset))[: arguments.slices]
        print(f"slices a second, compressed files:  {uncached(dataset, chosen):8.1f}")
        print(f"seconds to cache a volume:          {seconds_to_cache(dataset):8.2f}")
        print(f"slices a second, from the cache:    {opened(dataset, chosen):8.1f}")
        print(f"slices a second, from the loader:   {loaded(dataset, chosen, arguments.workers):8.1f}")
        kept = [file.stat().st_size for file in (Path(scratch) / "cache" / "volumes").iterdir()]
        print(f"MiB in the cache a volume:          {np.mean(kept) / 2**20:8.1f}")
    print(f"peak MiB of this process:           {peak(resource.RUSAGE_SELF):8.0f}")
    print(f"peak MiB of a worker:               {peak(resource.RUSAGE_CHILDREN):8.0f}")


if __name__ == "__main__":
    main()
