"""Read XML files of Aperio ImageScope, as MoNuSeg and MoNuSAC publish them: `a.xml` with the outlines of `a.tif`.

Each region of a layer is an instance. The name of the layer is the class. A file without regions is an image without
instances; an image without a file is not annotated and is left out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name, split_of
from mrcnn.data.readers.annotation_tools.outlines import Encoded, ellipse, encode_polygons, numbers
from mrcnn.data.readers.image_files import ImageFiles, find_annotation_files, read_xml, xml_begins_with
from mrcnn.errors import InputError

_UNNAMED = "object"  # class of a layer without a name
_OUTLINES, _ELLIPSE = ("0", "1"), "2"
"""Types of regions: freehand and rectangle, both with their corners, and ellipse, with two corners of its box.

The others, such as arrows and rulers, have no area.
"""


def matches(path: Path) -> bool:
    """Check for an XML file of ImageScope at `path`, or below it."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], None]:
    """Read one file, or the files of a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected XML files of Aperio ImageScope, such as a.xml for a.tif")
    files_of = {folder: ImageFiles([folder, root]) for folder in {file.parent for file in found}}
    images, passed, unnamed = [], [], []
    for file in found:
        where = relative_name(file, root)
        image = AnnotatedImage(where, file.stem, files_of[file.parent], split=split_of(file, root), by_stem=True)
        images.append(image)
        try:
            layers = read_xml(file).findall("Annotation")
        except InputError as error:
            image.faults.append(str(error))
            continue
        drawn = [layer for layer in layers if layer.find("Regions/Region") is not None]
        if len(drawn) > 1 and any(_class_of(layer) == _UNNAMED for layer in drawn):
            unnamed.append(where)
        for layer in drawn:
            for region in layer.iterfind("Regions/Region"):
                at = f"{where}, layer {layer.get('Id')}, region {region.get('Id')}"
                if region.get("Type", "0") in (*_OUTLINES, _ELLIPSE):
                    image.shapes.append(Shape(at, _class_of(layer), partial(_encode_region, region)))
                else:
                    passed.append(at)
    warnings += name_warnings("annotations have no area (arrows, rulers) and are passed over", passed)
    warnings += name_warnings(f"files have several layers, and those without a name are the class {_UNNAMED}", unnamed)
    return images, None


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.xml", "**/*.xml"), _is_aperio)


def _is_aperio(file: Path) -> bool:
    return xml_begins_with(file, rb"<Annotations[\s>].*<Annotation[\s>].*<Region")


def _class_of(layer: ElementTree.Element) -> str:
    """Return the name of a layer, or else of its attribute, as in MoNuSAC; ImageScope calls it `Description`."""
    names = [layer.get("Name")]
    for attribute in layer.iterfind("Attributes/Attribute"):
        name = attribute.get("Name")
        names.append(attribute.get("Value") if name == "Description" else name)
    return next((name for name in names if name and name.strip()), _UNNAMED)


def _encode_region(region: ElementTree.Element, height: int, width: int) -> Encoded:
    if region.get("NegativeROA", "0") != "0":
        raise ValueError("is a negative region (NegativeROA); expected an object")
    corners = numbers([vertex.get(axis) for vertex in region.iterfind("Vertices/Vertex") for axis in "XY"])
    if region.get("Type") == _ELLIPSE:
        if len(corners) != 4:
            raise ValueError(f"has {len(corners) // 2} vertices; expected two corners of the box of its ellipse")
        x1, y1, x2, y2 = corners
        corners = ellipse((x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1) / 2, abs(y2 - y1) / 2)
    return encode_polygons([corners], height, width)
