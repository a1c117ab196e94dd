"""Measure detections: COCO AP, overlap, surface distance, FROC, operating point, bootstrap intervals over patients.

No module here imports Keras: worker processes import them and must start fast.
"""

from mrcnn.metrics.evaluator import Evaluator

__all__ = ["Evaluator"]
