"""Synthetic images of each modality, written in the same forms that the readers read."""

from mrcnn.phantoms.writing import PHANTOM_KINDS, PhantomKind, write_dataset, write_films

__all__ = ["PHANTOM_KINDS", "PhantomKind", "write_dataset", "write_films"]
