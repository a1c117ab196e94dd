"""Quantize an exported ONNX file to 8-bit integers with calibration images, and measure its agreement with float32.

Static quantization of onnxruntime: 7-bit weights per output channel, 8-bit activations per tensor with their range
on the calibration images. Convolutions and dense layers are computed in integers; resizing, normalization, region
pooling, box decoding, suppression and mask pasting stay in float32.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mrcnn.export.onnx_graph import IR_VERSION, OPSET

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "Relu", "Clip")
"""Quantized operators. With its ReLU, a convolution gets the range after it, which is half or less of that before."""
_HELD_OUT = 4  # every fourth image measures the agreement


class _Images(CalibrationDataReader):
    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else _feed(image)


def write_int8(source: Path, path: Path, notes: Mapping[str, str], images: Sequence[np.ndarray]) -> dict[str, str]:
    """Quantize the ONNX file `source`; return its notes with `agreement`.

    Args:
        source: file of `mrcnn.export.onnx_file.write_onnx`.
        path: the new file.
        notes: those of `source`.
        images: (H, W, C) of any sizes, at least two. Every fourth measures the agreement, the others calibrate.
    """
    held_out = images[::_HELD_OUT]
    calibration = [image for index, image in enumerate(images) if index % _HELD_OUT]
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        # onnxruntime joins convolutions with their normalization, which must precede quantization.
        joined, quantized, ordered = (Path(folder, f"{name}.onnx") for name in ("joined", "quantized", "ordered"))
        _rewrite(source, joined, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # onnxruntime advises the step above
        try:
            quantize_static(
                joined,
                quantized,
                _Images(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                reduce_range=True,  # 7 bits of weight, since sums of products saturate on processors without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(before)
        # The quantizer sorts the nodes without regard to the values that `If` and `Scan` take from outside.
        _rewrite(quantized, ordered, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        model = onnx.load_model(ordered)
    model.ir_version, model.doc_string, model.producer_name = IR_VERSION, notes["notice"], "medmrcnn"
    del model.opset_import[:]  # onnxruntime adds its own operators, which the file does not use
    model.opset_import.append(helper.make_opsetid("", OPSET))
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    agreement = mask_agreement(source, path, held_out)
    notes = {**notes, "agreement": json.dumps({"mask_iou": round(agreement, 4), "images": len(held_out)})}
    helper.set_model_props(model, notes)
    onnx.save_model(model, path)
    return notes


def _rewrite(source: Path, path: Path, level: onnxruntime.GraphOptimizationLevel) -> None:
    """Write an ONNX file as onnxruntime optimizes and sorts it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = level, str(path)
    options.log_severity_level = 3  # it warns that some optimizations depend on the processor; these do not
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def mask_agreement(first: Path, second: Path, images: Iterable[np.ndarray]) -> float:
    """Compute the mean mask IoU between the instances that two exported ONNX files find in the same images.

    Each instance of either file counts with the largest IoU with an instance of its class in the other file, 0 if there
    is none, weighted by its score. NaN if both find nothing.
    """
    sessions = [onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (first, second)]
    total = weight = 0.0
    for image in images:
        scores, class_ids, masks = zip(
            *(session.run(["scores", "class_ids", "masks"], _feed(image)) for session in sessions), strict=True
        )
        flat = [each[0].reshape(len(each[0]), -1).astype(np.float32) for each in masks]
        common = flat[0] @ flat[1].T
        union = flat[0].sum(axis=1)[:, None] + flat[1].sum(axis=1) - common
        iou = common / np.maximum(union, 1) * (class_ids[0][0][:, None] == class_ids[1][0])
        for values, best in zip(scores, (iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)), strict=True):
            total, weight = total + float(values[0] @ best), weight + float(values[0].sum())
    return total / weight if weight else float("nan")


def _feed(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": image[None].astype(np.float32)}
