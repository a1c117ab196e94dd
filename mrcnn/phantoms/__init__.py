"""Generate synthetic images of each modality in the file formats that the readers support."""

from mrcnn.phantoms.writing import PHANTOM_KINDS, PhantomKind, write_dataset, write_films

__all__ = ["PHANTOM_KINDS", "PhantomKind", "write_dataset", "write_films"]
