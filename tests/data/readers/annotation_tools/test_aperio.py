"""The reader of Aperio ImageScope."""

import math

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SQUARE = [(2, 3), (7, 3), (7, 6), (2, 6)]


def region_of(vertices, number=1, **fields):
    stated = {"Id": number, "Type": 0, "NegativeROA": 0} | fields
    text = " ".join(f'{name}="{value}"' for name, value in stated.items())
    corners = "".join(f'<Vertex X="{x:.4f}" Y="{y:.4f}" Z="0"/>' for x, y in vertices)
    return f"<Region {text}><Attributes/><Vertices>{corners}</Vertices></Region>"


def layer_of(*regions, number=1, name="", attribute=("Description", "")):
    return (
        f'<Annotation Id="{number}" Name="{name}" ReadOnly="0" LineColor="65280"><Attributes><Attribute '
        f'Name="{attribute[0]}" Id="0" Value="{attribute[1]}"/></Attributes><Regions><RegionAttributeHeaders/>'
        f"{''.join(regions)}</Regions><Plots/></Annotation>"
    )


@pytest.fixture
def write(tmp_path, save_images):
    """Writes the layers of a, b and so on as MoNuSeg is published."""

    def write(*layers, annotations="Annotations"):
        names = "abc"[: len(layers)]
        save_images(tmp_path / "Tissue Images", *(f"{name}.tif" for name in names))
        (tmp_path / annotations).mkdir(exist_ok=True)
        for name, of_image in zip(names, layers, strict=True):
            text = f'<Annotations MicronsPerPixel="0.252000">{of_image}</Annotations>'
            (tmp_path / annotations / f"{name}.xml").write_text(text)
        return tmp_path

    return write


def test_regions_are_instances(write):
    ellipse = region_of([(20, 10), (40, 22)], 3, Type=2)
    box = region_of([(50, 30), (60, 30), (60, 40), (50, 40)], 2, Type=1)
    folder = write(layer_of(region_of(SQUARE), box, ellipse, region_of(SQUARE[:2], 4, Type=3)), layer_of())
    dataset = read_dataset(folder)
    assert dataset.class_names == ("object",) and not any("found by name" in each for each in dataset.warnings)
    first, second = dataset
    assert [first.masks.shape, second.masks.shape] == [(3, 40, 60), (0, 40, 60)]
    expected = np.zeros((2, 40, 60), bool)
    expected[0, 3:6, 2:7] = expected[1, 30:, 50:] = True
    np.testing.assert_array_equal(first.masks[:2], expected)
    assert abs(first.masks[2].sum() - math.pi * 10 * 6) < 6
    assert "annotations have no area (arrows, rulers) and are passed over" in " ".join(dataset.warnings)


def test_classes_are_layers(write):
    """As MoNuSAC names them by an attribute, ImageScope by the layer or its description."""
    layers = layer_of(region_of(SQUARE), attribute=("Epithelial", ""))
    layers += layer_of(region_of(SQUARE), number=2, name="Macrophage")
    dataset = read_dataset(write(layers + layer_of(region_of(SQUARE), number=3, attribute=("Description", "Other"))))
    assert dataset.class_names == ("Epithelial", "Macrophage", "Other")
    dataset = read_dataset(write(layers + layer_of(region_of(SQUARE), number=3)))
    assert "files have several layers, and those without a name are the class object: Annotations/a.xml" in " ".join(
        dataset.warnings
    )


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (region_of(SQUARE[:2]), r"Annotations/a\.xml, layer 1, region 1: .*3"),
        (region_of(SQUARE).replace('Y="3.0000"', ""), "has the coordinate 'None'; expected a finite number"),
        (region_of(SQUARE, NegativeROA=1), "is a negative region"),
        (region_of(SQUARE, Type=2), "has 4 vertices; expected two corners"),
        (region_of([(2, 3), (2, 9)], Type=2), "has the radii 0 and 3"),
        (region_of([(x + 70, y) for x, y in SQUARE]), "lies outside its image"),
    ],
)
def test_damaged_regions_are_named(write, region, message):
    folder = write(layer_of(region), layer_of(region_of(SQUARE)))
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [each.file_name for each in read_dataset(folder, on_error="skip").records] == ["Tissue Images/b.tif"]


def test_damaged_files_are_named(write):
    folder = write(layer_of(region_of(SQUARE)), layer_of(region_of(SQUARE)))
    file = folder / "Annotations/a.xml"
    file.write_text(file.read_text()[:-9])
    with pytest.raises(InputError, match=r"a\.xml: not an XML file"):
        read_dataset(folder)
    file.rename(folder / "Annotations/d.xml").write_text(f"<Annotations>{layer_of()}</Annotations>")
    with pytest.raises(InputError, match=r"Annotations/d\.xml: no image of the name 'd' in"):
        read_dataset(folder)
    assert "have no entry with annotations and are left out: Tissue Images/a.tif" in " ".join(
        read_dataset(folder, on_error="skip").warnings
    )
