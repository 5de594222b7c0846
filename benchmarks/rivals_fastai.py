"""One arm of rivals.py: fastai, in the environment that has it; prints one JSON object.

As it comes: `vision_learner` on the timm backbone, `RandomResizedCrop(side,
min_scale=0.5)` and `aug_transforms()` as in fastai's own book, batches of 32,
`fine_tune(4)`. With `--tuned` the rate of `lr_find` (its own default suggestion)
and, at the end, `tta`. 10 to 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

from fastai.vision.all import (  # noqa: E402
    ImageDataLoaders,
    RandomResizedCrop,
    accuracy,
    aug_transforms,
    defaults,
    parent_label,
    set_seed,
    vision_learner,
)

import backbone  # noqa: E402


def main() -> None:
    """Train and answer the test pictures."""
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--side", type=int, required=True)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--tuned", action="store_true")
    options.add_argument("--workers", type=int, default=defaults.cpus, help="fastai's own default")
    options.add_argument("--probe-steps", type=int, default=100, help="of lr_find")
    asked = options.parse_args()
    set_seed(asked.seed, reproducible=True)
    loaders = ImageDataLoaders.from_folder(
        asked.folder,
        train="train",
        valid="validation",
        item_tfms=RandomResizedCrop(asked.side, min_scale=0.5),
        batch_tfms=aug_transforms(),
        bs=32,
        num_workers=asked.workers,
    )
    # fastai's own way in for a pretrained timm network, with the weights at hand.
    weights = {"state_dict": backbone.state()}
    learner = vision_learner(
        loaders, backbone.NAME, metrics=accuracy, pretrained_cfg_overlay=weights
    )
    # lr_find writes a file, by default into the folder of the data.
    with tempfile.TemporaryDirectory() as place, learner.no_bar(), learner.no_logging():
        learner.path = Path(place)
        rate = 2e-3  # fine_tune's default
        if asked.tuned:
            rate = float(learner.lr_find(num_it=asked.probe_steps, show_plot=False).valley)
        learner.fine_tune(asked.epochs, base_lr=rate)
        validation = float(learner.recorder.values[-1][-1])
        paths, _, _ = backbone.listed(asked.folder, "test")
        batches = loaders.test_dl(paths)
        answers, _ = learner.tta(dl=batches) if asked.tuned else learner.get_preds(dl=batches)
    names = [loaders.vocab[index] for index in answers.argmax(1).tolist()]
    right = [name == parent_label(path) for name, path in zip(names, paths, strict=True)]
    facts = {"test": sum(right) / len(right), "validation": validation, "pictures": len(right)}
    print(json.dumps({**facts, "rate": rate, "epochs": asked.epochs}))


if __name__ == "__main__":
    main()
