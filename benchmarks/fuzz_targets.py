"""Generate small valid files of every supported format, and damage them.

Reading a damaged file must return samples or raise `InputError`.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.io.nifti import open_nifti
from mrcnn.data.readers import read_all
from mrcnn.errors import InputError

HEIGHT, WIDTH = 12, 20
DEEP, ENDLESS = "@deep@", "@endless@"
"""In JSON, where a list within lists and a very long number stand in the file."""
NASTY = (
    None, True, -1, 0, 1, 2, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e308, 5e-324, 0.5, float("nan"),
    float("inf"), float("-inf"), "", " ", "a_1.png", "..", "../a_1.png", "/etc/hostname", "\0", "\ud800", "é", "[",
    "x" * 5000, "12", [], {}, [[]], [[[]]], [0], [None], [1, 2], [{}], [[1e30] * 6], [[0.0] * 6], [[39, 0] * 3],
    [[1, 1, 1, 1, 1, 1]], [[-40, 40, 40, -40, -40, -40]], [["1", "2", "3", "4", "5", "6"]], DEEP, ENDLESS,
    {"size": [HEIGHT, WIDTH]}, {"size": [10**9, 10**9], "counts": [10**18]},
    {"size": [HEIGHT, WIDTH], "counts": [2**62, 2**62, 2**62, 2**62, 240]},
    {"size": [HEIGHT, WIDTH], "counts": "o" * 40}, {"size": [HEIGHT, WIDTH], "counts": [0, 0, 0, 240, 0]},
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Describe a file format.

    Attributes:
        seeds: valid files by name.
        read: (folder, file) → reads what lies there, the file being the damaged one.
        surroundings: other files of the folder, by name.
        damage: how a valid file becomes another.
    """

    seeds: dict[str, bytes]
    read: Callable[[Path, Path], None]
    surroundings: dict[str, bytes]
    damage: Callable[[bytes, Random], bytes]

    def try_one(self, folder: Path, name: str, content: bytes) -> bool:
        """Return whether a file of that content is readable; raise exceptions other than `InputError`."""
        for other, bytes_of in ({name: content} | {n: b for n, b in self.surroundings.items() if n != name}).items():
            path = folder / other
            if other == name or not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes_of)
        try:
            self.read(folder, folder / name)
        except InputError as error:
            str(error).encode("utf-8")  # whatever is told must be fit for a file
            return False
        return True


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Change, remove or insert bytes, or truncate the file."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        if not data:
            break
        kind, at = random.randint(0, 5), random.randrange(len(data))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << random.randint(0, 7)
        elif kind == 2:
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randint(0, 255)))
        elif kind == 3:
            size = random.choice((2, 4, 8))
            data[at : at + size] = random.choice((b"\xff" * size, b"\0" * size, b"\x7f" + b"\xff" * (size - 1)))
        elif kind == 4:
            del data[at : at + random.randint(1, 16)]
        else:
            data[at:at] = data[max(0, at - random.randint(1, 64)) : at]
    return bytes(data)


def damage_packed(content: bytes, random: Random) -> bytes:
    """Damage a gzip file or its uncompressed content, mostly the header."""
    if random.randint(0, 3) == 0:
        return damage_bytes(content, random)
    whole = gzip.decompress(content)
    return gzip.compress(damage_header(whole, random), 1)


def damage_header(content: bytes, random: Random) -> bytes:
    return damage_bytes(content[:348], random) + content[348:]


def damage_json(content: bytes, random: Random) -> bytes:
    """Replace, remove or duplicate values, damage the text, or change its encoding."""
    kind = random.randint(0, 9)
    if kind == 0:
        return damage_bytes(content, random)
    if kind == 1:
        return content.decode().encode(random.choice(("utf-16", "utf-32", "utf-16-le", "utf-8-sig", "cp500")))
    value = json.loads(content)
    for _ in range(random.randint(1, 3)):
        value = _changed(value, random)
    text = json.dumps(value)
    return text.replace(f'"{DEEP}"', "[" * 900 + "]" * 900).replace(f'"{ENDLESS}"', "9" * 4300).encode()


def _changed(value: Any, random: Random) -> Any:
    """Change one element of a value, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or random.randint(0, 5) == 0:
        return deepcopy(random.choice(NASTY))
    key = random.choice(keys)
    kind = random.randint(0, 7)
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, list):
        value.insert(key, deepcopy(value[key]))
    else:
        value[key] = _changed(value[key], random)
    return value


def _open_all(form: str, **options: Any) -> Callable[[Path, Path], None]:
    def read(folder: Path, file: Path) -> None:
        dataset = read_all(folder, form, **options).without_invalid()
        "\n".join((*dataset.warnings, *dataset.skipped, *dataset.class_names)).encode("utf-8")
        for sample in dataset:
            assert sample.masks.shape[1:] == sample.image.shape[:2]

    return read


def _open_image(folder: Path, file: Path) -> None:
    try:
        read_header(file)
    finally:
        read_image(file)


def _open_volume(folder: Path, file: Path) -> None:
    volume = open_nifti(file)
    assert volume.stack().shape == volume.shape
    volume.grid()
    assert all(side > 0 for side in volume.spacing_mm)


def _picture(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _dicom(pixels: np.ndarray, **elements: Any) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientID, dataset.PixelSpacing, dataset.Modality = "17", [0.5, 0.25], "US"
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept = 100, 50, 2, -5
    dataset.SeriesInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames = len(pixels) if pixels.ndim == 3 else 1
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _structures() -> bytes:
    """Encode a structure set with one contour on the slice in the middle of a series."""
    dataset, frame, study, series = (pydicom.Dataset() for _ in range(4))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    dataset.Modality, series.SeriesInstanceUID = "RTSTRUCT", "1.2.3.4"
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    roi, item, contour = (pydicom.Dataset() for _ in range(3))
    roi.ROINumber = item.ReferencedROINumber = 1
    roi.ROIName, contour.ContourGeometricType, contour.NumberOfContourPoints = "lesion", "CLOSED_PLANAR", 4
    contour.ContourData = [0.5, 1, 2, 3, 1, 2, 3, 4, 2, 0.5, 4, 2]
    item.ContourSequence = [contour]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [roi], [item]
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _matlab(image: np.ndarray, mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as content:
        content["cjdata/image"], content["cjdata/tumorMask"] = image.astype(np.int16).T, mask.T
        content["cjdata/label"], content["cjdata/PID"] = [[2.0]], np.array([[55], [56]], np.uint16)
    return b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + file.getvalue()[512:]


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def damage_table(content: bytes, random: Random) -> bytes:
    """Replace a word of a text file, or damage its bytes."""
    words = re.split(rb"([\s,;:<>\"=]+)", content)
    if random.randint(0, 2) == 0:
        return damage_bytes(content, random)
    for _ in range(random.randint(1, 3)):
        nasty = random.choice([each for each in NASTY if isinstance(each, int | float | str)])
        words[random.randrange(len(words))] = str(nasty).encode("utf-8", "backslashreplace")
    return b"".join(words)


def _tool_targets(pictures: dict[str, bytes], mask: bytes) -> dict[str, Target]:
    """Return a target for each annotation tool; `mask` is a PNG of two pieces of value 1."""
    square = [[2, 3], [7, 3], [7, 6], [2, 6]]
    packed = base64.b64encode(mask).decode()
    shapes = [
        {"label": "iso", "points": square, "shape_type": "polygon", "group_id": 3},
        {"label": "iso", "points": square[:3:2], "shape_type": "rectangle", "group_id": None},
        {"label": "hypo", "points": [[6, 6], [9, 6]], "shape_type": "circle"},
        {"label": "hypo", "points": [[0, 0], [19, 11]], "shape_type": "mask", "mask": packed},
    ]
    labelme = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a_1.png", "imageData": None,
               "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip
    alpha = [0] * 3 + [255]
    bits = f"{HEIGHT * WIDTH * 4:032b}{7:05b}{2:04b}{7:04b}{11:04b}{15:04b}"
    bits += f"000{3:03b}" + "".join(f"{value:08b}" for value in alpha) + f"110{HEIGHT * WIDTH * 4 - 5:012b}{0:08b}"
    brush = [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]
    values = (
        ("polygonlabels", {"points": square}), ("brushlabels", {"format": "rle", "rle": brush}),
        ("rectanglelabels", {"x": 10, "y": 20, "width": 30, "height": 20, "rotation": 20}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 3}),
    )  # fmt: skip
    tasks = [
        {"id": number, "data": {"image": f"/data/upload/1/01234567-{name}"}, "annotations": [{"result": [
            {"type": kind, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
             "value": value | {kind: ["iso"]}} for kind, value in values]}]}
        for number, name in enumerate(pictures)
    ]  # fmt: skip
    points = {"exterior": square, "interior": [[[3, 4], [5, 4], [4, 5]]]}
    objects = [
        {"classTitle": "iso", "geometryType": "polygon", "points": points},
        {"classTitle": "iso", "geometryType": "rectangle", "points": {"exterior": square[:3:2], "interior": []}},
        {"classTitle": "iso", "geometryType": "bitmap",
         "bitmap": {"data": base64.b64encode(zlib.compress(mask)).decode(), "origin": [0, 0]}},
    ]  # fmt: skip
    ann = {
        "size": {"height": HEIGHT, "width": WIDTH},
        "tags": [{"name": "patient_id", "value": "7"}],
        "objects": objects,
    }
    meta = {"classes": [{"title": "iso", "shape": "any"}], "tags": []}
    sly = {"meta.json": json.dumps(meta).encode(), "d/ann/a_1.png.json": json.dumps(ann).encode()}
    panoptic = {
        "categories": [{"id": 1, "name": "iso", "isthing": 1}, {"id": 2, "name": "rest", "isthing": 0}],
        "images": [{"id": 1, "file_name": "a_1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1, "file_name": "m.png", "segments_info": [{"id": 1, "category_id": 1}]}],
    }
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn[2:7, 3:9, 0] = 1
    via3 = {
        "project": {}, "attribute": {"1": {"aname": "kind", "type": 4, "options": {"0": "iso"}}},
        "file": {"1": {"fid": "1", "fname": "a_1.png", "type": 2}}, "view": {"1": {"fid_list": ["1"]}},
        "metadata": {"m": {"vid": "1", "z": [], "xy": [7, 2, 3, 7, 3, 7, 6], "av": {"1": "0"}},
                     "n": {"vid": "1", "z": [], "xy": [4, 6, 6, 4, 3], "av": {"1": "0"}}},
    }  # fmt: skip
    table = "filename,file_attributes,region_shape_attributes,region_attributes\n"
    table += 'a_1.png,{},"{""name"":""circle"",""cx"":6,""cy"":6,""r"":4}","{""kind"":""iso""}"\n'
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    minimal = [
        {"id": number, "image": f"/data/upload/1/01234567-{name}", "annotation_id": number, "label": [
            value | {kind: ["iso"], "original_width": WIDTH, "original_height": HEIGHT} for kind, value in values]}
        for number, name in enumerate(pictures)
    ]  # fmt: skip
    via3_table = "# Exported using VGG Image Annotator\n" + f"# ATTRIBUTE = {json.dumps(via3['attribute'])}\n"
    via3_table += "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
    via3_table += '"1_x","[""a_1.png""]",0,"[]","[2,2,3,5,3]","{""1"":""0""}"\n'
    cvat = f"""<annotations><meta><task><labels><label><name>iso</name></label></labels></task></meta>
<image id="0" name="a_1.png" subset="train" {size}><polygon label="iso" points="2,3;7,3;7,6" group_id="1"/>
<box label="iso" xtl="2" ytl="3" xbr="7" ybr="6" rotation="30"/><ellipse label="iso" cx="6" cy="6" rx="4" ry="3"/>
<mask label="iso" rle="2,3,1" left="2" top="3" width="3" height="2"/></image></annotations>"""
    points = json.dumps([{"points": [{"x": x, "y": y} for x, y in square], "annotation": {}, "regionType": "freehand"}])
    ddti = f"""<case><number>1</number><tirads>4a</tirads><mark><image>1</image><svg>{points}</svg></mark>
<mark><image>2</image><svg/></mark></case>"""
    aperio = f"""<Annotations><Annotation Id="1" Name="iso"><Regions><Region Id="1" Type="0" NegativeROA="0"><Vertices>
{"".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in square)}</Vertices></Region><Region Id="2" Type="2"><Vertices>
<Vertex X="2" Y="3"/><Vertex X="9" Y="8"/></Vertices></Region></Regions></Annotation></Annotations>"""
    voc = f"""<annotation><filename>a_1.png</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>
<object><name>iso</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>7</xmax><ymax>6</ymax></bndbox></object><object><name>iso</name><polygon>
<x1>2</x1><y1>3</y1><x2>7</x2><y2>3</y2><x3>7</x3><y3>6</y3></polygon></object></annotation>"""
    label_map = b"# label:color_rgb:parts:actions\nbackground:0,0,0::\niso:1,0,0::\n"
    yolo = {
        "data.yaml": b"train: images\nnames:\n  0: iso\n",
        "labels/a_1.txt": b"0 0.1 0.1 0.5 0.1 0.5 0.6\n0 .5 .5 .2 .2\n",
    }
    tables = {
        "runs.csv": b"ImageId,EncodedPixels,class,split\na_1,2 4 9 3,iso,train\nb_1,-1,,val\n",
        "relative.csv": b"ImageId,EncodedPixels\na_1,40 4 9 3 20 2\nb_1,-1\n",
        "boxes.csv": f"image,width,height,class,xmin,ymin,xmax,ymax\na_1.png,{WIDTH},{HEIGHT},iso,2,3,7,6\n".encode(),
    }
    picture, masks = pictures["a_1.png"], {"SegmentationClass/a_1.png": _picture(drawn, "PNG")}
    masks |= {"SegmentationObject/a_1.png": _picture(drawn, "PNG"), "labelmap.txt": label_map}
    return {
        "labelme": Target({"a_1.json": json.dumps(labelme).encode()}, _open_all("labelme"), pictures, damage_json),
        "label_studio": Target({"p.json": json.dumps(tasks).encode(), "min.json": json.dumps(minimal).encode()},
                               _open_all("label_studio"), pictures, damage_json),
        "supervisely": Target(sly, _open_all("supervisely"), sly | {"d/img/a_1.png": picture}, damage_json),
        "panoptic": Target({"p.json": json.dumps(panoptic).encode()}, _open_all("panoptic"),
                           pictures | {"m.png": _picture(drawn, "PNG")}, damage_json),
        "via3": Target({"p.json": json.dumps(via3).encode()}, _open_all("via"), pictures, damage_json),
        "via_csv": Target({"v.csv": table.encode(), "v3.csv": via3_table.encode()}, _open_all("via"), pictures,
                          damage_table),
        "cvat": Target({"annotations.xml": cvat.encode()}, _open_all("cvat"), pictures, damage_table),
        "ddti": Target({"a.xml": ddti.encode()}, _open_all("ddti"), pictures, damage_table),
        "aperio": Target({"a_1.xml": aperio.encode()}, _open_all("aperio"), pictures, damage_table),
        "voc": Target({"Annotations/a_1.xml": voc.encode()}, _open_all("voc"), pictures, damage_table),
        "voc_masks": Target(masks, _open_all("voc"), masks | {"images/a_1.png": picture}, damage_bytes),
        "yolo": Target(yolo, _open_all("yolo"), yolo | {"images/a_1.png": picture}, damage_table),
        "csv": Target(tables, _open_all("csv"), pictures, damage_table),
    }  # fmt: skip


def _targets() -> dict[str, Target]:
    rng = np.random.default_rng(3)
    gray = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    color, deep = np.dstack([gray, gray // 2, gray // 3]), gray.astype(np.uint16) * 257
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[2:7, 3:9] = drawn[8:12, 10:15] = 1
    png, mask = _picture(gray, "PNG"), _picture(drawn, "PNG")
    square = [2, 3, 7, 3, 7, 6, 2, 6]
    runs = {"size": [HEIGHT, WIDTH], "counts": [15, 25, 200]}
    coco = {
        "categories": [{"id": 7, "name": "hypo"}, {"id": 3, "name": "iso"}],
        "images": [
            {"id": 1, "file_name": "a_1.png", "height": HEIGHT, "width": WIDTH, "spacing_mm": [0.1, 0.2]},
            {"id": 2, "file_name": "b_1.png", "height": HEIGHT, "width": WIDTH, "patient_id": "b", "label": "benign"},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 7, "segmentation": [square, [9, 1, 12, 1, 12, 4]], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 3, "segmentation": runs},
            {"id": 3, "image_id": 1, "category_id": 3, "segmentation": [square], "bbox": [2, 3, 5, 3]},
        ],
    }  # fmt: skip
    shapes = [
        {"name": "polygon", "all_points_x": square[::2], "all_points_y": square[1::2]},
        {"name": "rect", "x": 2, "y": 3, "width": 5, "height": 3},
        {"name": "ellipse", "cx": 6, "cy": 6, "rx": 4, "ry": 3, "theta": 0.4},
        {"name": "circle", "cx": 6, "cy": 6, "r": 4},
    ]
    via = {
        name: {"filename": name, "size": 3, "file_attributes": {}, "regions": [
            {"shape_attributes": shape, "region_attributes": {"type": kind}} for shape in shapes]}
        for name, kind in (("a_1.png", "iso"), ("b_1.png", {"hypo": True}))
    }  # fmt: skip
    pictures = {"a_1.png": png, "b_1.png": png}
    volume = nibabel.Nifti1Image(gray.reshape(6, 5, 8).astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes()
    images = {
        "gray.png": png, "color.png": _picture(color, "PNG"), "deep.png": _picture(deep, "PNG"),
        "color.jpg": _picture(color, "JPEG"), "gray.bmp": _picture(gray, "BMP"), "gray.tif": _picture(gray, "TIFF"),
        "packed.tif": _picture(deep, "TIFF", compression="tiff_deflate"),
        "deep.tif": _tiff(np.dstack([deep] * 3), photometric="rgb"),
        "planes.tif": _tiff(np.stack([deep] * 3), photometric="rgb", planarconfig="separate"),
        "zlib.tif": _tiff(np.dstack([deep] * 3), photometric="rgb", compression="zlib"),
    }  # fmt: skip
    as_tiff = {"p/p_1.tif": _picture(color, "TIFF"), "p/p_1_mask.tif": _picture(drawn * 255, "TIFF")}
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "whole": [1, 2]}}
    label_map = nibabel.Nifti1Image(drawn.reshape(6, 5, 8), np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes()
    cases = {"imagesTr/a_0000.nii": volume, "labelsTr/a.nii": label_map, "imagesTr/b_0000.nii": volume,
             "labelsTr/b.nii": label_map}  # fmt: skip
    described_files = cases | {"dataset.json": json.dumps(described).encode()}
    loop = {"a.dcm": _dicom(np.stack([gray] * 3)), "a_mask.npy": _npy(np.stack([drawn] * 3))}
    series = {f"{k}.dcm": _dicom(deep, ImagePositionPatient=[0, 0, 2 * k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                                 SOPInstanceUID=f"1.2.{k + 1}") for k in range(3)}  # fmt: skip
    structures = {"rs.dcm": _structures()}
    split = {"masks/a.png": mask, "masks/b.npy": _npy(drawn), "images/a.png": png}
    return {
        "coco": Target({"annotations.json": json.dumps(coco).encode()}, _open_all("coco"), pictures, damage_json),
        "via": Target({"via_region_data.json": json.dumps(via).encode()}, _open_all("via"), pictures, damage_json),
        "masks": Target(split, _open_all("masks"), split | {"images/b.png": png}, damage_bytes),
        "lgg": Target(as_tiff, _open_all("lgg"), as_tiff, damage_bytes),
        "cheng": Target({"1.mat": _matlab(gray, drawn)}, _open_all("cheng"), {}, damage_bytes),
        "volumes": Target(cases, _open_all("volumes"), described_files, damage_header),
        "described": Target({"dataset.json": json.dumps(described).encode()}, _open_all("volumes"), cases, damage_json),
        "loop": Target(loop, _open_all("volumes"), loop, damage_bytes),
        "structures": Target(
            structures | series, _open_all("volumes", layout="dicom"), structures | series, damage_bytes
        ),
        "image": Target(images, _open_image, {}, damage_bytes),
        "dicom": Target({"a.dcm": _dicom(gray), "b.dcm": _dicom(deep)}, _open_image, {}, damage_bytes),
        "nifti": Target({"a.nii": volume}, _open_volume, {}, damage_header),
        "packed_nifti": Target({"a.nii.gz": gzip.compress(volume)}, _open_volume, {}, damage_packed),
    } | _tool_targets(pictures, mask)


TARGETS = _targets()
"""By name."""
