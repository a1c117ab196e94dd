"""A trained model as one file or folder that runs without this project: a TensorFlow SavedModel, or ONNX.

Both take and return the same tensors:

- `images` (batch, height, width, channels) float32: images of one size, any size, as they were read, not resized or
  normalised. Channels: the model's own number, or 1 for grey, or 3 where the model takes grey. An image that holds only
  whole numbers from 0 to 255 counts as an 8-bit one.
- `boxes` (batch, N, 4) float32: x1, y1, x2, y2 in pixels of the images, x2 and y2 exclusive, best score first. N is the
  number of instances in the fullest image of the batch; slots that an image leaves empty are 0, and last.
- `scores` (batch, N) float32; `class_ids` (batch, N) int32, 1 for the first class name.
- `masks` (batch, N, height, width) uint8, 1 where the instance is.
- `count` (batch,) int32: instances in each image.

They are what `MaskRCNN.detect` returns. Research use only.
"""

from mrcnn.export.exporting import FORMS, export_model

__all__ = ["FORMS", "export_model"]
