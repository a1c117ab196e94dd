"""How good detections are: COCO AP, overlap, surface distance, FROC, working point, intervals over patients.

No Keras here: worker processes import these modules, and they must start fast.
"""

from mrcnn.metrics.evaluator import Evaluator

__all__ = ["Evaluator"]
