"""List the annotation formats: the module of each reader, its options, and what a data set of the format contains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mrcnn.data.reader_options import CsvOptions, MasksOptions, ReaderOptions, ViaOptions, VolumesOptions

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


@dataclass(frozen=True)
class Need:
    """Describe something that an annotation format needs.

    Attributes:
        text: what it is, in a message.
        pattern: regular expression searched in the path of a file, in lower case.
        content: regular expression searched in the beginning of such files; None for any content.
    """

    text: str
    pattern: str
    content: bytes | None = None


@dataclass(frozen=True)
class AnnotationFormat:
    """Describe an annotation format and its reader.

    Attributes:
        module: module below `mrcnn.data.readers`, imported on use. It defines `matches(path)`, whether the folder or
            file has this format, without reading all of it; and either `read(path, patient_pattern=…)`, which also
            takes `options` if the format has any, or `parse`, see `annotation_tools.annotated_images.read_tool`.
        needs: what a data set of the format contains.
        options: class of the options, or None.
        name_unlisted: whether a warning names the images that the annotations do not list.
    """

    module: str
    needs: tuple[Need, ...]
    options: type[ReaderOptions] | None = None
    name_unlisted: bool = False


_IMAGES = Need("images", rf"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})$")
_JSON = Need("a JSON file", r"\.json$")

FORMATS: Mapping[str, AnnotationFormat] = MappingProxyType(
    {
        "supervisely": AnnotationFormat(
            "annotation_tools.supervisely",
            (
                _IMAGES,
                Need("meta.json", r"(^|/)meta\.json$"),
                Need("a folder ann with a JSON file for each image", r"(^|/)ann/[^/]*\.json$"),
            ),
        ),
        "labelme": AnnotationFormat(
            "annotation_tools.labelme",
            (_IMAGES, _JSON, Need("its shapes and imagePath", r"\.json$", rb'"imagePath"')),
        ),
        "label_studio": AnnotationFormat(
            "annotation_tools.label_studio",
            (_IMAGES, _JSON, Need("its tasks with data and annotations", r"\.json$", rb'\A\s*\[.*"data"')),
            name_unlisted=True,
        ),
        "panoptic": AnnotationFormat(
            "annotation_tools.panoptic",
            (_IMAGES, _JSON, Need("its segments_info", r"\.json$", rb'"segments_info"')),
        ),
        "cvat": AnnotationFormat(
            "annotation_tools.cvat",
            (_IMAGES, Need("an XML file", r"\.xml$"), Need("its <image> elements", r"\.xml$", rb"<image[\s>]")),
            name_unlisted=True,
        ),
        "via": AnnotationFormat(
            "annotation_tools.via",
            (_IMAGES, _JSON, Need("its regions (VIA 2) or view (VIA 3)", r"\.json$", rb'"regions"|"fid_list"')),
            ViaOptions,
        ),
        "coco": AnnotationFormat(
            "coco",
            (
                _IMAGES,
                _JSON,
                Need("its lists images, annotations and categories", r"\.json$", rb'"categories"\s*:'),
            ),
        ),
        "volumes": AnnotationFormat(
            "volumes",
            (
                Need("NIfTI volumes", r"\.nii(\.gz)?$"),
                Need(
                    "label maps such as a_seg.nii.gz, or in labelsTr or labels",
                    r"(seg|label|mask)[^/]*(/.*)?\.nii(\.gz)?$",
                ),
            ),
            VolumesOptions,
        ),
        "lgg": AnnotationFormat(
            "lgg",
            (
                Need("slices named <patient>_<k>.tif", r"_\d+\.tiff?$"),
                Need("<patient>_<k>_mask.tif", r"_\d+_mask\.tif"),
            ),
        ),
        "voc": AnnotationFormat(
            "annotation_tools.voc",
            (
                _IMAGES,
                Need("SegmentationClass with PNG masks, or XML files with boxes", r"segmentationclass/.*\.png$|\.xml$"),
            ),
        ),
        "yolo": AnnotationFormat(
            "annotation_tools.yolo",
            (
                _IMAGES,
                Need("a text file for each image, in labels or beside it", r"(^|/)labels/.*\.txt$"),
                Need("data.yaml or classes.txt with the names of the classes", r"(classes\.txt|obj\.names)$|\.ya?ml$"),
            ),
        ),
        "masks": AnnotationFormat(
            "masks",
            (
                _IMAGES,
                Need(
                    "a folder masks, or files such as a_mask.png (--masks.mask_suffix names another suffix)",
                    r"mask[^/]*/|_mask[^/]*$",
                ),
            ),
            MasksOptions,
        ),
        "ddti": AnnotationFormat(
            "annotation_tools.ddti",
            (_IMAGES, Need("an XML file for each case", r"\.xml$"), Need("its marks", r"\.xml$", rb"<case>.*<mark>")),
            name_unlisted=True,
        ),
        "aperio": AnnotationFormat(
            "annotation_tools.aperio",
            (_IMAGES, Need("an XML file for each image", r"\.xml$"), Need("its regions", r"\.xml$", rb"<Region[\s>]")),
            name_unlisted=True,
        ),
        "cheng": AnnotationFormat(
            "annotation_tools.cheng",
            (Need("MATLAB 7.3 files with a struct cjdata", r"\.mat$", rb"MATLAB 7\.3 .*cjdata"),),
        ),
        "csv": AnnotationFormat(
            "annotation_tools.tables",
            (
                _IMAGES,
                Need("a CSV file", r"\.csv$"),
                Need(
                    "its columns ImageId and EncodedPixels, or image and xmin, ymin, xmax, ymax",
                    r"\.csv$",
                    rb"(?i)EncodedPixels|rle|x_?min|x1",
                ),
            ),
            CsvOptions,
        ),
    }
)
"""Formats by name, in the order in which `mrcnn.data.readers.find_reader` tries them."""
