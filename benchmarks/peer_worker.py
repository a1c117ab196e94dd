"""Run torchvision's Mask R-CNN R50-FPN for `benchmarks.speed`, with the settings of ours.

Runs in a Python with torch and torchvision, on a GPU if torch finds one. Settings: precision, size, batch, and
`setup`, a folder with a `torchvision_cpu.py` to import first, or null. mixed_bfloat16 is autocast and channels-last.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed_setup import (
    INSTANCES,
    MANY_THRESHOLD,
    SEED,
    few_threshold,
    fill_boxes,
    make_boxes,
    make_images,
    peak_memory,
)
from benchmarks.speed_turns import serve

TRAINING_PASSES = 3


class Torchvision:
    """As `benchmarks.speed_worker.Ours`."""

    def __init__(self, precision: str, size: int, batch: int, setup: str | None) -> None:
        if setup:
            sys.path.insert(0, setup)
            importlib.import_module("torchvision_cpu")
        self.torchvision = importlib.import_module("torchvision")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.mixed = precision == "mixed_bfloat16"
        self.size, self.batch = size, batch
        self.images = make_images(size, batch)
        self.scores: list[list[float]] = []
        self.model = self.run = None

    def hello(self) -> dict:
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        versions = f"torch {torch.__version__}, torchvision {self.torchvision.__version__}"
        return {"versions": versions, "device": device, "threads": torch.get_num_threads()}

    def prepare(self, work: str) -> dict:
        if work == "few" and not self.scores:
            self.prepare("many")
        threshold = few_threshold(self.scores) if work == "few" else MANY_THRESHOLD
        self.model = self._build(threshold)
        self.run = self._training() if work == "train" else self._detection()
        seconds = self.step()["seconds"]
        with FlopCounterMode(display=False) as counter:
            found = self.run(backward=False) if work == "train" else self.run()
        gflop = counter.get_total_flops() / 1e9
        if work == "train":
            self.run()
            return {"seconds": seconds, "gflop": TRAINING_PASSES * gflop, "kept": []}
        if work == "many":
            self.scores = [each["scores"].tolist() for each in found]
        return {"seconds": seconds, "gflop": gflop, "kept": [len(each["scores"]) for each in found]}

    def step(self) -> dict:
        start = time.perf_counter()
        self.run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - start}

    def peak(self) -> dict:
        answer = {"bytes": peak_memory()}
        if self.device.type == "cuda":
            answer["device_bytes"] = torch.cuda.max_memory_allocated()
        return answer

    def _build(self, threshold: float) -> torch.nn.Module:
        from torchvision.models.detection import MaskRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.ops.misc import FrozenBatchNorm2d

        torch.manual_seed(SEED)
        # What `maskrcnn_resnet50_fpn` builds for pretrained weights, without downloading them.
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
        )
        model = MaskRCNN(
            backbone,
            num_classes=3,
            min_size=self.size,
            max_size=self.size,
            rpn_pre_nms_top_n_train=1000,
            rpn_post_nms_top_n_train=1000,
            rpn_pre_nms_top_n_test=1000,
            rpn_post_nms_top_n_test=1000,
            box_batch_size_per_image=128,
            box_detections_per_img=100,
            box_score_thresh=threshold,
        ).to(self.device)
        # Proposals are anchors in all systems.
        torch.nn.init.zeros_(model.rpn.head.bbox_pred.weight)
        return model.to(memory_format=torch.channels_last) if self.mixed else model

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def _inputs(self) -> list[torch.Tensor]:
        """Convert from uint8 pixels in every step, as `detect` does."""
        return [torch.from_numpy(image).to(self.device).permute(2, 0, 1).float() / 255 for image in self.images]

    def _training(self) -> Callable[..., None]:
        self.model.train()
        optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], 1e-6, momentum=0.9)
        inputs = self._inputs()
        targets = [
            {
                "boxes": torch.from_numpy(boxes).float().to(self.device),
                "labels": torch.ones(INSTANCES, dtype=torch.int64, device=self.device),
                "masks": torch.from_numpy(fill_boxes(boxes, self.size)).to(torch.uint8).to(self.device),
            }
            for boxes in make_boxes(self.size, self.batch)
        ]

        def train(*, backward: bool = True) -> None:
            with self._autocast():
                loss = sum(self.model(inputs, targets).values())
            if backward:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if not math.isfinite(loss.item()):
                raise ArithmeticError(f"the loss is {loss.item()}")

        return train

    def _detection(self) -> Callable[[], list[dict]]:
        self.model.eval()

        def detect() -> list[dict]:
            with torch.inference_mode(), self._autocast():
                found = self.model(self._inputs())
            return [{name: value.cpu() for name, value in each.items()} for each in found]

        return detect


if __name__ == "__main__":
    serve(lambda: Torchvision(**json.loads(sys.argv[1])))
