"""Suggest the unlabeled images to annotate next, and write them with pre-annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.commands.arguments import SuggestArgs
from experiments.evaluation.artifacts import csv_text
from experiments.external.opened_model import OpenedModel, open_model
from experiments.prediction.inputs import Item, find_inputs
from experiments.preparation.data_check import check_data
from experiments.preparation.datasets import standing_folder
from experiments.terminal import Terminal
from mrcnn.cache_folder import cache_folder
from mrcnn.data import Dataset
from mrcnn.data.duplicates import SIDE, cached_groups, make_thumbnails, thumbnail
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.writers import FORMS, WrittenImage, new_folder, place_image, written_stems
from mrcnn.detections import Detections
from mrcnn.errors import InputError, counted
from mrcnn.inference.drawing import to_display
from mrcnn.inference.ensemble import Ensemble
from mrcnn.inference.image_selection import embed_images, nearest_distances, score_entropy, select_images
from mrcnn.models import MaskRCNN
from trackers.packaging.served import NOTICE

TABLE = "suggestions.csv"
_BATCH = 4


@dataclass
class _Candidates:
    """The readable unlabeled images, with what the model makes of each."""

    items: list[Item] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def suggest_images(args: SuggestArgs) -> list[str]:
    """Rank the images of a folder, and write the best with pre-annotations; return the problems of unreadable images.

    Raises:
        InputError: the model is no Mask R-CNN of images, or no image can be suggested.
    """
    console = Terminal()
    inputs = find_inputs([args.folder], base=standing_folder(), output=args.output, fetch=Path)
    items = [item for item in inputs.items if item.kind in ("image", "dicom")]
    if not items:
        raise InputError(f"{args.folder}: contains no single image; expected PNG, JPEG, TIFF, BMP or DICOM files")
    if len(items) < len(inputs.items):
        names = [item.source for item in inputs.items if item not in items]
        console.print(f"note: {summarize_names('inputs are no single images and are left out', names)}", markup=False)
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        model = open_model(args.model, task=args.task, folder=Path(scratch))
        network = _network(model)
        known = _training_images(model, console)
        candidates = _examine(items, model, network)
        thumbnails = np.stack(candidates.thumbnails)
        of_training = np.zeros((0, SIDE, SIDE), np.uint8)
        if known is not None:
            of_training = make_thumbnails(known, cache_folder() / "thumbnails", Problems("images"))
        groups = cached_groups(np.concatenate([thumbnails, of_training]), cache_folder() / "thumbnails")
        new = np.flatnonzero(~np.isin(groups[: len(thumbnails)], groups[len(thumbnails) :]))
        if len(new) < len(thumbnails):
            seen = len(thumbnails) - len(new)
            alike = counted(seen, "near-duplicate of a training image is", "near-duplicates of training images are")
            console.print(f"note: {alike} left out", markup=False)
        if not len(new):
            raise InputError(f"{args.folder}: the training has seen all of its images; expected new ones")
        features = np.stack(candidates.features)[new]
        trained = _embed_dataset(network, known)
        uncertainty = np.array([score_entropy(candidates.found[index].scores) for index in new])
        chosen = select_images(uncertainty, features, trained, groups[new], args.images)
        distances = nearest_distances(features, trained)
        rows = []
        for rank, each in enumerate(chosen, start=1):
            alike = np.flatnonzero((groups[new] == groups[new][each]) & (np.arange(len(new)) != each))
            rows.append(
                {
                    "rank": rank,
                    "image": candidates.items[new[each]].source,
                    "uncertainty_bits": round(uncertainty[each], 3),
                    "distance_to_training": round(float(distances[each]), 3) if len(trained) else None,
                    "near_duplicates_left_out": " ".join(candidates.items[new[index]].source for index in alike),
                }
            )
        with new_folder(args.output) as fresh:
            _write(args, [candidates.items[new[each]] for each in chosen],
                   [candidates.found[new[each]].above(model.confidence) for each in chosen],
                   model.predictor.config.class_names, fresh)  # fmt: skip
            (fresh / TABLE).write_text(csv_text(rows), encoding="utf-8")
    for row in rows[:10]:
        console.print(
            f"{row['rank']:>3}. {row['image']}: unsure {row['uncertainty_bits']:.2f} bits, "
            f"unlike the training images {row['distance_to_training']}",
            markup=False,
        )
    console.print(
        f"Suggested: {len(chosen)} of {counted(len(items), 'image')}, as {FORMS[args.form].title} in {args.output}; "
        f"{TABLE} ranks them. {NOTICE}",
        markup=False,
    )
    return [*inputs.problems, *candidates.problems]


def _network(model: OpenedModel) -> MaskRCNN:
    """Return the network whose features describe the images: the only one, or the first of an ensemble."""
    predictor = model.predictor
    network = predictor.networks[0] if isinstance(predictor, Ensemble) else predictor
    if not isinstance(network, MaskRCNN):
        raise InputError(f"{model.title}: is no Mask R-CNN; expected one, whose features describe the images")
    if network.config.context_slices:
        raise InputError(f"{model.title}: sees each slice with its neighbors; expected a model of images")
    if model.config is not None and model.config.data.reader == "volumes" and network.config.normalisation == "none":
        raise InputError(f"{model.title}: was trained on volumes, each scaled as a whole; expected a model of images")
    return network


def _training_images(model: OpenedModel, console: Console) -> Dataset | None:
    """Read the images of the training and validation splits again; None, with a note, if that is impossible."""
    problem = "its training is not recorded"
    if model.config is not None:
        try:
            checked = check_data(model.config)
            checked.raise_if_wrong()
            test = set(checked.splits["test"].tolist())
            return checked.whole.subset(index for index in range(len(checked.whole)) if index not in test)
        except InputError as error:
            problem = str(error).splitlines()[0]
    console.print(
        f"note: the training images cannot be read again, so images are ranked by uncertainty and by how unlike each "
        f"other they are: {problem}",
        style="yellow", markup=False,
    )  # fmt: skip
    return None


def _examine(items: Sequence[Item], model: OpenedModel, network: MaskRCNN) -> _Candidates:
    """Detect and describe the images, one batch in memory at a time."""
    candidates, batch = _Candidates(), []
    for position, item in enumerate(items, start=1):
        try:
            batch.append((item, read_image(item.files[0])))
        except InputError as error:
            candidates.problems.append(str(error))
        if batch and (len(batch) == _BATCH or position == len(items)):
            images = [image for _, image in batch]
            candidates.items += [each for each, _ in batch]
            candidates.found += model.predictor.detect(images, batch_size=_BATCH)
            candidates.features += list(embed_images(network, images))
            candidates.thumbnails += [thumbnail(image) for image in images]
            batch = []
    if not candidates.items:
        raise InputError(candidates.problems[0])
    return candidates


def _embed_dataset(network: MaskRCNN, dataset: Dataset | None) -> np.ndarray:
    count = 0 if dataset is None else len(dataset)
    parts = [embed_images(network, [dataset.image(index) for index in range(start, min(start + _BATCH, count))])
             for start in range(0, count, _BATCH) if dataset is not None]  # fmt: skip
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _write(
    args: SuggestArgs, items: Sequence[Item], found: Sequence[Detections], class_names: Sequence[str], folder: Path
) -> None:
    form, images = FORMS[args.form], []
    for item, stem, detections in zip(items, written_stems([item.source for item in items]), found, strict=True):
        source = item.files[0]
        orientation = read_header(source).orientation
        path = form.image_path(stem + form.suffix(source, orientation), None)
        place_image(folder / path, source, orientation, lambda source=source: to_display(read_image(source)))
        images.append(WrittenImage(path, detections.instances, detections.class_ids, detections.scores))
    form.write(images, class_names, folder)
