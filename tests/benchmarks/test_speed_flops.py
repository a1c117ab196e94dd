import keras
import pytest
from keras import layers

from benchmarks.speed_flops import (
    computed_mask_slots,
    forward_flops,
    inference_flops,
    layer_flops,
    training_flops,
)
from mrcnn.config import ModelConfig
from mrcnn.models import MaskRCNN
from mrcnn.models.backbones import build_backbone


def flops(layer, shape, side=None):
    layer(layers.Input(shape))
    return layer_flops(layer, side)


def test_a_convolution_by_hand():
    # 5 × 5 outputs of 8 channels, each a sum over 3 × 3 × 4 inputs.
    assert flops(layers.Conv2D(8, 3, 2, "same"), (10, 10, 4)) == 2 * 25 * 8 * 36


def test_a_convolution_in_groups_by_hand():
    assert flops(layers.Conv2D(8, 3, padding="same", groups=2), (10, 10, 4)) == 2 * 100 * 8 * 18


def test_a_convolution_of_open_size_takes_the_side_that_is_given():
    assert flops(layers.Conv2D(8, 1), (None, None, 4), side=6) == 2 * 36 * 8 * 4


def test_a_transposed_convolution_by_hand():
    # 20 × 20 outputs; with kernel and stride 2 each is made from one input cell's 4 channels.
    assert flops(layers.Conv2DTranspose(8, 2, 2), (10, 10, 4)) == 2 * 400 * 8 * 4


def test_a_dense_layer_by_hand():
    assert flops(layers.Dense(7), (49,)) == 2 * 49 * 7
    assert flops(layers.Dense(7), (3, 5)) == 2 * 3 * 5 * 7


def test_layers_without_a_matrix_count_nothing():
    assert flops(layers.BatchNormalization(), (4, 4, 8)) == 0
    assert flops(layers.ReLU(), (4, 4, 8)) == 0


def test_an_unknown_layer_with_a_matrix_is_an_error():
    with pytest.raises(TypeError, match="EinsumDense"):
        flops(layers.EinsumDense("abc,cd->abd", (None, 3)), (4, 8))


def test_the_backbone_costs_what_its_paper_says():
    """3.8 · 10⁹ multiply-adds at 224 × 224 (He et al. 2016, table 1), the classifier's 2 million among them."""
    model = build_backbone(ModelConfig(class_names=("a",), image_size=224, norm="frozen_batch"))
    assert sum(layer_flops(layer) for layer in model.layers) == pytest.approx(2 * 3.8e9, rel=0.02)


@pytest.fixture(scope="module")
def small():
    config = ModelConfig(
        class_names=("a", "b"),
        image_size=64,
        backbone="small",
        fpn_channels=16,
        head_width=16,
        mask_channels=16,
        mask_convolutions=1,
        roi_samples=8,
        proposals=10,
    )
    yield MaskRCNN(config)
    keras.backend.clear_session()


def test_heads_cost_what_each_region_adds(small):
    base = forward_flops(small, batch=1, regions=0, mask_slots=0)
    # Two dense layers, then 3 scores and 2 boxes.
    box = 2 * (7 * 7 * 16 * 16 + 16 * 16 + 16 * 3 + 16 * 8)
    # One convolution on 14 × 14 cells, the doubling, then 2 masks of 28 × 28.
    mask = 2 * (14 * 14 * 9 * 16 * 16 + 28 * 28 * 16 * 16 + 28 * 28 * 16 * 2)
    assert forward_flops(small, batch=1, regions=3, mask_slots=0) - base == 3 * box
    assert forward_flops(small, batch=1, regions=0, mask_slots=5) - base == 5 * mask
    assert forward_flops(small, batch=4, regions=3, mask_slots=5) == 4 * (base + 3 * box + 5 * mask)
    # A quarter of the 8 sampled regions may be positive. The proposal head trains at its 256 sampled anchors alone.
    cell = 2 * (9 * 16 * 16 + 16 * 3 + 16 * 12)
    levels = (16**2 + 8**2 + 4**2 + 2**2 + 1) * cell
    trained = base - levels + 256 * cell + 8 * box + 2 * mask
    assert training_flops(small, 2, positives=1) == 2 * (3 * trained + levels)
    assert inference_flops(small, 2, kept=16) == 2 * (base + 10 * box + 8 * mask)


def test_the_proposal_head_runs_on_every_level(small):
    cells = 16**2 + 8**2 + 4**2 + 2**2 + 1
    head = 2 * cells * (9 * 16 * 16 + 16 * 3 + 16 * 12)
    trunk = [layer_flops(layer) for part in (small.backbone, small.pyramid) for layer in part.layers]
    assert forward_flops(small, batch=1, regions=0, mask_slots=0) == sum(trunk) + head


@pytest.mark.parametrize(("regions", "slots"), [(0, 4), (8, 4), (9, 8), (17, 16), (33, 32), (65, 100), (200, 100)])
def test_masks_are_made_in_a_few_sizes(regions, slots):
    assert computed_mask_slots(regions, 2, 100) == slots
    assert computed_mask_slots(regions, 2, 12) == (4 if slots == 4 else 12)
