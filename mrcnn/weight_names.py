"""Names and files of weights that a training may start from. Imports nothing: the command line checks by it."""

NAMED = ("none", "imagenet", "coco")
FILES = (".keras", ".weights.h5", ".h5", ".hdf5", ".safetensors", ".npz")
