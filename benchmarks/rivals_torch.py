"""Two arms of rivals.py: logistic regression on features, and a plain PyTorch loop.

`logistic`: pictures squeezed to a square as ours are, pooled trunk features by
onnxruntime (export included), standardised, scikit-learn's logistic regression
with C chosen on validation. Under a minute; the seed changes nothing.

`loop`: every epoch decodes, augments (torchvision v2), runs the frozen trunk and
trains the tail (AdamW, cosine), without stores. 8 to 20 minutes on two cores.
Both print one JSON object and know nothing of sevenfold.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import backbone


def logistic(asked: argparse.Namespace) -> dict[str, Any]:
    """Fit on the training features and answer the test pictures."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    roles = [backbone.listed(asked.folder, role) for role in backbone.ROLES]
    pixels = backbone.pictures([p for paths, _, _ in roles for p in paths], asked.side, asked.cores)
    found = backbone.features(pixels, asked.cores)
    ends = np.cumsum([len(paths) for paths, _, _ in roles])[:-1]
    (train, val, test), (y_train, y_val, y_test) = np.split(found, ends), [y for _, y, _ in roles]
    fits = {}
    for strength in np.logspace(-5, 0, 6):
        model = LogisticRegression(C=float(strength), max_iter=2000)
        fits[strength] = make_pipeline(StandardScaler(), model).fit(train, y_train)
    scores = {strength: fit.score(val, y_val) for strength, fit in fits.items()}
    best = max(scores, key=lambda strength: (scores[strength], -strength))
    facts = {"test": fits[best].score(test, y_test), "validation": scores[best]}
    return {**facts, "pictures": len(y_test), "C": float(best), "engine": "onnxruntime"}


class Folder:
    """Hand out augmented pictures and labels; decodes each time."""

    def __init__(self, asked: argparse.Namespace, role: str, transform: Any) -> None:
        self.paths, self.labels, self.classes = backbone.listed(asked.folder, role)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), int(self.labels[index])


def transforms(side: int) -> tuple[Any, Any]:
    """Return the usual torchvision pipelines: for training, and for judging."""
    import torch
    from torchvision.transforms import v2

    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    train = [
        v2.RandomResizedCrop(side, scale=(0.5, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomRotation(10, v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(0.2, 0.2, 0.2),
    ]
    return v2.Compose([*train, *end]), v2.Compose([v2.Resize((side, side)), *end])


def loop(asked: argparse.Namespace) -> dict[str, Any]:
    """Train the tail and answer the test pictures."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader

    torch.manual_seed(asked.seed)
    augmented, plain = transforms(asked.side)
    sets = [Folder(asked, role, augmented if role == "train" else plain) for role in backbone.ROLES]
    workers = {"num_workers": asked.cores, "persistent_workers": True}
    train = DataLoader(sets[0], asked.batch, shuffle=True, drop_last=True, **workers)
    model = backbone.network(len(sets[0].classes))
    trunk, tail = backbone.parts(model, asked.blocks)
    trunk, tail = (part.to(memory_format=torch.channels_last) for part in (trunk, tail))
    optimizer = torch.optim.AdamW(tail.parameters(), lr=asked.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, asked.rate, total_steps=asked.epochs * len(train), pct_start=0.1
    )
    for _ in range(asked.epochs):
        tail.train()
        for pixels, labels in train:
            with torch.no_grad():
                maps = trunk(pixels.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            functional.cross_entropy(tail(maps), labels).backward()
            optimizer.step()
            schedule.step()
    tail.eval()

    def score(held: Folder) -> float:
        right = 0
        with torch.inference_mode():
            for pixels, labels in DataLoader(held, 64, **workers):
                right += int((tail(trunk(pixels)).argmax(1) == labels).sum())
        return right / len(held)

    facts = {"validation": score(sets[1]), "test": score(sets[2]), "pictures": len(sets[2])}
    return {**facts, "epochs": asked.epochs, "blocks": asked.blocks, "rate": asked.rate}


def main() -> None:
    """Run one arm."""
    warnings.filterwarnings("ignore")
    options = argparse.ArgumentParser()
    options.add_argument("arm", choices=("logistic", "loop"))
    options.add_argument("folder", type=Path)
    options.add_argument("--side", type=int, required=True)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--blocks", type=int, default=1)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rate", type=float, default=3e-3)
    asked = options.parse_args()
    print(json.dumps(logistic(asked) if asked.arm == "logistic" else loop(asked)))


if __name__ == "__main__":
    main()
