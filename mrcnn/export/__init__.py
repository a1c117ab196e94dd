"""Export a trained model as a TensorFlow SavedModel or an ONNX file that runs without this project.

Both formats have the same inputs and outputs:

- `images` (batch, height, width, channels) float32: images of any one size, not resized or normalized. The
  number of channels is that of the model, or 1 (gray), or 3 for a model with one channel. A model with `context_slices`
  takes the channels of all slices; see `mrcnn.data.sample.read_with_context`. An image with only integers
  from 0 to 255 is treated as 8-bit.
- `boxes` (batch, N, 4) float32: x1, y1, x2, y2 in pixels of the images, x2 and y2 exclusive, best score first. N is the
  largest number of instances of an image in the batch; the padding is 0.
- `scores` (batch, N) float32; `class_ids` (batch, N) int32, 1 for the first class name.
- `masks` (batch, N, height, width) uint8, 0 or 1.
- `count` (batch,) int32: number of instances per image.

The values are those of `MaskRCNN.detect`; those of `onnx_int8` differ by the quantization. Research use only.
"""

from mrcnn.export.exporting import FORMS, export_model

__all__ = ["FORMS", "export_model"]
