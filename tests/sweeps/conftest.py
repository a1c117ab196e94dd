import pytest
import yaml

from experiments.config.model_options import STRENGTHS


@pytest.fixture(scope="session")
def make_task(tmp_path_factory, phantom_folder):
    """Writes a task that trains for seconds, with the given section `sweep`; returns the file's path."""

    def make(sweep, **train):
        content = {
            "task": "thyroid",
            "modality": "ultrasound",
            "data": {"dataset": str(phantom_folder)},
            "model": {
                "backbone": "small",
                "image_size": 64,
                "fpn_channels": 16,
                "head_width": 32,
                "mask_channels": 16,
                "mask_convolutions": 1,
                "rpn_samples": 32,
                "proposals_per_level": 20,
                "proposals": 30,
                "roi_samples": 16,
                "max_detections": 10,
                "score_threshold": 0.01,
                "roi_canonical_size": 224,
            },
            # Without augmentation a tiny network finds something within two epochs.
            "augment": dict.fromkeys(STRENGTHS, 0),
            "train": {"weights": "none", "epochs": 2, "batch_size": 2, "workers": 0, "optimizer": "sgd", **train},
            "evaluate": {"resamples": 20, "overlays": 1, "metric": "dice"},
            "sweep": sweep,
        }
        file = tmp_path_factory.mktemp("task") / "tiny.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return make
