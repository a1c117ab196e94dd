"""Read the layout of PASCAL VOC, which CVAT's "Segmentation mask 1.1" shares: masks by color, or boxes in XML files.

`SegmentationObject/a.png` numbers the instances, `SegmentationClass/a.png` has their classes by the colors of
`labelmap.txt`, or else by the color map of VOC. Void pixels, value 255 or color (224, 224, 192), belong to no instance.
Without these masks, the polygons and boxes of `Annotations/a.xml` are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from mrcnn.data.io.pictures import DECODING_ERRORS, open_picture
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import (
    AnnotatedImage,
    Encoded,
    Shape,
    relative_name,
    split_name,
    split_of,
)
from mrcnn.data.readers.annotation_tools.outlines import encode_box, encode_polygons, numbers
from mrcnn.data.readers.image_files import (
    IMAGE_SUFFIXES,
    ImageFiles,
    compose_unicode,
    files_below,
    parse_integer,
    read_text,
    read_xml,
)
from mrcnn.data.readers.mask_folders import MaskPairs
from mrcnn.data.readers.segmentation import split_components
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop, encode_crop

_CLASSES, _OBJECTS, _BOXES = "SegmentationClass", "SegmentationObject", "Annotations"
_IMAGES = ("JPEGImages", "images", "Images")
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VOID, _VOID_COLOR = 255, (224, 224, 192)
_BACKGROUND = "background"
_MOST_INSTANCES = 10_000


def matches(path: Path) -> bool:
    """Check for a folder of masks by color, or of XML files with boxes and no masks of another layout."""
    roots = _roots(path)
    return bool(roots) and (any((root / _CLASSES).is_dir() for root in roots) or not MaskPairs(path).matches())


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str] | None]:
    """Read masks, or else boxes; see `annotated_images`."""
    roots = _roots(path)
    if not roots:
        raise InputError(f"{path}: expected {_CLASSES}/, {_OBJECTS}/ or {_BOXES}/ with annotations")
    images, names = [], None
    for root in roots:
        found, of_root = _read_root(root, path, problems, warnings)
        for image in found:
            image.split = image.split or split_of(root / "a", path)
        if images and of_root != names:
            raise InputError(f"{root}: its classes differ from those of {roots[0]}; expected the same labelmap.txt")
        images, names = [*images, *found], of_root
    return images, names


def _read_root(
    root: Path, path: Path, problems: Problems, warnings: list[str]
) -> tuple[list[AnnotatedImage], list[str] | None]:
    """Read one folder of the layout."""
    folders = [root / name for name in _IMAGES if (root / name).is_dir()]
    if (root / _CLASSES).is_dir():
        if not folders:
            raise InputError(f"{root}: expected the images in {_IMAGES[0]}; CVAT exports them if `Save images` is set")
        return _read_masks(root, path, ImageFiles(folders), problems, warnings)
    files, splits = ImageFiles(folders or [root]), _read_lists(root, "Main")
    images = []
    for file in sorted(files_below(root, f"{_BOXES}/**/*.xml")) or sorted(files_below(root, "**/*.xml")):
        image = _read_boxes(file, relative_name(file, path), files)
        image.split = splits.get(compose_unicode(file.stem))
        images.append(image)
    return images, None


def _roots(path: Path) -> list[Path]:
    """Find the folders of the layout, which an archive may wrap in others (`VOCdevkit/VOC2012`), or one a split."""
    for pattern in ("", "*/", "*/*/") if path.is_dir() else ():
        folders = [path] if not pattern else sorted(path.glob(pattern))
        if found := [folder for folder in folders if _is_root(folder)]:
            return found
    return []


def _is_root(folder: Path) -> bool:
    if (folder / _CLASSES).is_dir() and any(True for _ in files_below(folder / _CLASSES, "*.png")):
        return True
    boxes = (*files_below(folder, f"{_BOXES}/*.xml"), *files_below(folder, "*.xml"))
    return any(_is_voc(file) for file in boxes[:3])


def _is_voc(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(2048)
    return b"<annotation>" in head or b"<annotation " in head


def _read_lists(root: Path, folder: str) -> dict[str, str | None]:
    """Read the images of `ImageSets/<folder>/train.txt` and the other lists there, with the split of each or None."""
    splits: dict[str, str | None] = {}
    for file in sorted(files_below(root, f"ImageSets/{folder}/*.txt")):
        for line in read_text(file).splitlines():
            if words := line.split():
                name = compose_unicode(words[0])
                splits[name] = splits.get(name) or split_name(file.stem)
    return splits


def _read_masks(
    root: Path, path: Path, files: ImageFiles, problems: Problems, warnings: list[str]
) -> tuple[list[AnnotatedImage], list[str]]:
    splits = _read_lists(root, "Segmentation")
    names, colors = _read_label_map(root)
    by_object = (root / _OBJECTS).is_dir()
    images, alone = [], []
    for file in sorted(files_below(root / _CLASSES, "**/*.png")):
        stem = file.relative_to(root / _CLASSES).with_suffix("").as_posix()
        where = relative_name(file, path)
        image = AnnotatedImage(where, None, files, split=splits.get(compose_unicode(stem)))
        try:
            image.file = files.find_by_stem(stem)
        except ValueError as error:
            problems.add_skippable(f"{where}: {error}")
            continue
        objects = root / _OBJECTS / file.relative_to(root / _CLASSES) if by_object else None
        try:
            _read_mask(image, file, objects, names, colors, path)
        except InputError as error:
            image.faults.append(str(error))
        images.append(image)
    if by_object:
        stems = {file.stem for file in files_below(root / _CLASSES, "**/*.png")}
        lone = [
            relative_name(file, path) for file in files_below(root / _OBJECTS, "**/*.png") if file.stem not in stems
        ]
        for name in sorted(lone):
            problems.add_skippable(f"{name}: no mask of that name in {_CLASSES}")
    else:
        warnings.append(f"{_OBJECTS} is missing: each connected piece of a class counts as one instance")
    found, bare = {image.file for image in images}, []
    for folder in _IMAGES:
        for file in sorted(files_below(root, f"{folder}/**/*")):
            if file in found or file.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            name = compose_unicode(file.relative_to(root / folder).with_suffix("").as_posix())
            if name in splits:  # CVAT writes no mask of an image without objects
                images.append(AnnotatedImage(relative_name(file, path), file, split=splits[name]))
            (bare if name in splits else alone).append(relative_name(file, path))
    for names_of, what in ((bare, "count as images without instances"), (alone, "are left out, as no list has them")):
        warnings += name_warnings(f"images have no mask in {_CLASSES} and {what}", names_of)
    return images, [name for name in names if name != _BACKGROUND]


def _read_label_map(root: Path) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Read names and colors of the classes."""
    file = root / "labelmap.txt"
    if not file.is_file():
        return list(VOC_NAMES), [_voc_color(number) for number in range(len(VOC_NAMES))]
    names, colors = [], []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        # Names may contain colons; color, parts and actions follow. A class without a color has that of its number.
        parts = line.rsplit(":", 3)
        values = [parse_integer(value) for value in parts[1].split(",")] if len(parts) == 4 and parts[1] else []
        values = values or list(_voc_color(len(names)) if len(parts) == 4 else ())
        if len(values) != 3 or any(value is None or not 0 <= value <= 255 for value in values):
            raise InputError(f"{file}, line {number}: {line[:80]!r}; expected name:red,green,blue::")
        names.append(parts[0].strip())
        colors.append((values[0] or 0, values[1] or 0, values[2] or 0))
    if len(set(colors)) < len(colors) or len(set(names)) < len(names):
        raise InputError(f"{file}: two classes have one name or color; expected different ones")
    if not set(names) - {_BACKGROUND}:
        raise InputError(f"{file}: names no class")
    return names, colors


def _voc_color(number: int) -> tuple[int, int, int]:
    """Compute the color of a class in the VOC color map: its bits, spread over the three channels from the highest."""
    channels = [0, 0, 0]
    for shift in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * shift + channel) & 1) << (7 - shift)
    return channels[0], channels[1], channels[2]


def _open(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask as codes (H, W) int64, values or red · 65536 + green · 256 + blue, and void (H, W) bool."""
    try:
        with open_picture(file, ("PNG",)) as image:
            if image.mode in ("L", "I;16", "I", "1"):
                values = np.array(image).astype(np.int64)
                return values, values == _VOID
            void = np.array(image) == _VOID if image.mode == "P" else None
            color = np.array(image.convert("RGB")).astype(np.int64)
    except (*DECODING_ERRORS, Image.UnidentifiedImageError) as error:
        raise InputError(f"{file}: expected a readable PNG mask ({error})") from error
    codes = _codes(color)
    return codes, (codes == _codes(np.array(_VOID_COLOR))) | (False if void is None else void)


def _codes(color: np.ndarray) -> np.ndarray:
    return color[..., 0] << 16 | color[..., 1] << 8 | color[..., 2]


def _read_mask(
    image: AnnotatedImage,
    file: Path,
    objects: Path | None,
    names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    path: Path,
) -> None:
    """Add the instances of a mask to an image. Raises `InputError` if a file is invalid."""
    codes, void = _open(file)
    image.size = codes.shape[0], codes.shape[1]
    where = relative_name(file, path)
    with Image.open(file) as opened:
        gray = opened.mode not in ("P", "RGB", "RGBA")
    known = {number if gray else int(_codes(np.array(color))): number for number, color in enumerate(colors)}
    known.setdefault(0, -1)
    # Classes are masks too large for one array each, so values are mapped once.
    class_of = np.full(codes.shape, -1, np.int32)
    for code in np.unique(codes[~void]):
        number = known.get(int(code))
        if number is None:
            shown = int(code) if gray else (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255)
            expected = "labelmap.txt" if names != list(VOC_NAMES) else "the VOC color map; is labelmap.txt missing?"
            raise InputError(f"{where}: holds the {'value' if gray else 'color'} {shown}; expected one of {expected}")
        class_of[codes == code] = -1 if number < 0 or names[number] == _BACKGROUND else number
    class_of[void] = -1
    for instance, (number, crop) in enumerate(_instances(class_of, objects, codes.shape, names, path)):
        run = encode_crop(crop, *image.size)
        image.shapes.append(Shape(f"{where}, instance {instance}", names[number], partial(_encoded, run)))


def _encoded(run: bytes, height: int, width: int) -> Encoded:
    return run, ()


def _instances(
    class_of: np.ndarray, objects: Path | None, shape: tuple[int, ...], names: Sequence[str], path: Path
) -> Iterator[tuple[int, Crop]]:
    """Yield class and crop of each instance."""
    if objects is None:
        for number in np.unique(class_of[class_of >= 0]):
            count, pieces = split_components(class_of == number)
            _check_number(count, path)
            yield from ((int(number), crop) for crop in pieces)
        return
    where = relative_name(objects, path)
    if not objects.is_file():
        raise InputError(f"{where}: is missing; expected the instances of the mask of that name in {_CLASSES}")
    codes, void = _open(objects)
    if codes.shape != shape:
        raise InputError(f"{where}: has {codes.shape[1]}×{codes.shape[0]} pixels; expected {shape[1]}×{shape[0]}")
    codes = np.where(void, 0, codes)
    if ((codes == 0) & (class_of >= 0) & ~void).any():
        raise InputError(f"{where}: leaves out pixels that have a class in {_CLASSES}; expected an instance for each")
    for _, crop in crops_by_value(codes, path):
        inside = class_of[crop.slices][crop.pixels]
        found = [int(number) for number in np.unique(inside) if number >= 0]
        if len(found) != 1:
            told = " and ".join(names[number] for number in found) or "no class"
            raise InputError(f"{where}: an instance has {told} in {_CLASSES}; expected one class")
        yield found[0], crop


def crops_by_value(values: np.ndarray, path: Path) -> Iterator[tuple[int, Crop]]:
    """Yield each value above 0 with the pixels that have it."""
    present, numbered = np.unique(values, return_inverse=True)
    _check_number(len(present), path)
    numbered = numbered.reshape(values.shape) + 1
    for number, place in enumerate(find_objects(numbered), start=1):
        if place is not None and present[number - 1] > 0:
            rows, columns = place[0], place[1]
            yield int(present[number - 1]), Crop(rows.start, columns.start, numbered[place] == number)


def _check_number(count: int, path: Path) -> None:
    if count > _MOST_INSTANCES:
        raise InputError(f"{path}: a mask holds {count} instances; expected at most {_MOST_INSTANCES}")


def _read_boxes(file: Path, where: str, files: ImageFiles) -> AnnotatedImage:
    """Read the objects of an XML file. Coordinates of boxes are pixels from 1, the last one included."""
    image = AnnotatedImage(where, file.stem, files)
    try:
        image.file = files.find_by_stem(file.stem)
    except ValueError:
        image.file = None
    try:
        tree = read_xml(file)
    except InputError as error:
        image.faults.append(str(error))
        return image
    if image.file is None:
        image.file = tree.findtext("filename")
    image.set_size(tree.findtext("size/height"), tree.findtext("size/width"))
    for number, entry in enumerate(tree.iter("object")):
        box = entry.find("bndbox")
        polygons = entry.findall("polygon")
        encode = partial(_encode_outlines, polygons) if polygons else partial(_encode_box, box)
        image.shapes.append(Shape(f"{where}, object {number}", entry.findtext("name"), encode, is_box=not polygons))
    return image


def _encode_outlines(polygons: Sequence[ElementTree.Element], height: int, width: int) -> Encoded:
    """Encode polygons of Roboflow (`x1`, `y1`, …) or of LabelMe's XML (`pt` with `x` and `y`), in pixels from 0."""
    outlines = []
    for polygon in polygons:
        points = polygon.findall("pt")
        if points:
            texts = [point.findtext(name) for point in points for name in ("x", "y")]
        else:
            count = sum(element.tag[:1] == "x" and element.tag[1:].isdigit() for element in polygon)
            texts = [polygon.findtext(f"{name}{number}") for number in range(1, count + 1) for name in ("x", "y")]
        outlines.append(numbers(texts))
    return encode_polygons(outlines, height, width)


def _encode_box(box: ElementTree.Element | None, height: int, width: int) -> Encoded:
    if box is None:
        raise ValueError("has no bndbox")
    x1, y1, x2, y2 = numbers([box.findtext(name) for name in ("xmin", "ymin", "xmax", "ymax")])
    if x2 < x1 or y2 < y1:
        raise ValueError(f"has a box that ends before it begins, from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})")
    return encode_box((x1 - 1, y1 - 1, x2, y2), height, width)
