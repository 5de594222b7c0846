"""Fine-tune a run's networks on what is new and on a replay of what is old.

Under a bounded budget nothing beats mixing in a uniform replay of the old data (Prabhu et
al. 2023, arXiv 2303.11165): an epoch shows every new picture once and some of the old ones,
under the recipe of the training, and there are few epochs at a lower rate. How far a network
then goes from its old weights to the new ones is chosen on pictures that neither has seen
(`path`).
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from sevenfold import loop, nets, runs
from sevenfold.data import Split
from sevenfold.errors import GateRefused
from sevenfold.place import Place
from sevenfold.practices import ensembling, growth, imbalance
from sevenfold.predictions import recorded
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.remake import record
from sevenfold.train import Bench, Fitted, Member
from sevenfold.train.bench import parts_of, tail_of
from sevenfold.train.jobs import benches_of
from sevenfold.train.member import hard, rows_of, train_part
from sevenfold.train.refusals import diverged, refuse_folds
from sevenfold.update import path
from sevenfold.update.incoming import Incoming

EPOCHS: Final = 0.2
"""Of those of the training: with what else is done a quarter of its time from empty stores
(benchmarks/update.py)."""
RATE: Final = 0.3
"""Of the largest rate of the training (same file)."""
REPLAY: Final = 4
"""Old pictures in an epoch for each new one (same file)."""
LEAST_REPLAY: Final = 1000
"""Old pictures in an epoch at least: a handful of new ones must not pull alone."""
_UNASKED: Final = 1e-4  # probability of a class that a model did not know when it was asked
_TABLES: Final = ("class_strength", "class_off", "class_views")

_Logits = Float[np.ndarray, "judged classes"]


def epochs(recipe: Recipe) -> int:
    """Return how many epochs a fine-tuning has."""
    return max(1, int(EPOCHS * recipe.epochs))


def renamed(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """Return a recipe whose settings for single classes have the classes' new names."""
    settings = recipe.augmentation
    tables: dict[str, Any] = {
        table: {names.get(name, name): value for name, value in getattr(settings, table).items()}
        for table in _TABLES
    }
    return replace(recipe, augmentation=replace(settings, **tables))


def replayed(
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    fresh: Bool[np.ndarray, "pictures"],
    seed: int,
) -> Int64[np.ndarray, "replayed"]:
    """Return all pictures that are fresh and a draw of the others, the same share of each class.

    Args:
        split: with the labels and groups of the pictures.
        pictures: that may be trained on.
        fresh: which of them the running weights have not seen, or not with their label.
        seed: of the draw; what is drawn depends on content, not on order.
    """
    old = pictures[~fresh]
    share = max(LEAST_REPLAY, REPLAY * int(fresh.sum())) / max(1, len(old))
    drawn = growth.given(replace(split, train=old), growth.Growth(min(1.0, share)), seed)
    return np.sort(np.concatenate([pictures[fresh], drawn]))


def shown(run: runs.Run, found: Incoming, seed: int) -> Int64[np.ndarray, "pictures"]:
    """Return the pictures that an epoch shows.

    All where a class is new, which would otherwise seem more common than it is, and where
    there are no validation pictures, so that the folds have to judge every one.
    """
    split = found.split
    pictures = growth.given(split, run.recipe.growth, record.first_seed(run))
    if found.learned or not len(split.val):
        return pictures
    corrected = {one.hash for one in found.corrections} if found.applied else set()
    fresh = [at >= found.old or split.dataset.hashes[at] in corrected for at in pictures]
    # Each update draws anew, or what is never drawn would be forgotten over many.
    return replayed(split, pictures, np.array(fresh, bool), seed + found.old)


def tuned(
    run: runs.Run,
    found: Incoming,
    *,
    seed: int,
    place: Place,
    folder: Path,
    progress: Progress,
) -> tuple[Fitted, tuple[float, ...]]:
    """Go on from a run's weights; what was pruned or distilled keeps its architecture.

    Writes to the stores and checkpoints into `folder`; goes on from what is there. Only
    pictures that the trunk has not seen yet cost its time.

    Args:
        run: that is updated.
        found: its data with what is new.
        seed: of everything random.
        place: where to compute.
        folder: where checkpoints lie.
        progress: is told what is under way.

    Returns:
        What was fitted, and how much of its way each network that has a say went, 0 to 1.
    """
    recipe, split = renamed(run.recipe, found.renamed), found.split
    recipe, members, weights = _voters(run, recipe)
    pictures = shown(run, found, seed)
    refuse_folds(split, pictures)
    networks = [grown(one.network, len(found.learned)) for one in members]
    benches = benches_of(
        networks, _short(recipe), split, pictures, place, run.pixels, folder, seed, progress
    )
    made: list[Member] = []
    ways: list[float] = []
    for at, (member, network, bench) in enumerate(zip(members, networks, benches, strict=True)):
        start = replace(member, network=network)
        one, way = _member(run, found, bench, start, ensembling.seed_of(seed, at), at)
        made.append(one)
        ways.append(way)
    rate, has_say = float(run.facts["training"]["rate"]), np.flatnonzero(weights)
    ships, shares = tuple(made[at] for at in has_say), weights[has_say] / weights.sum()
    fitted = Fitted(recipe, tuple(made), weights, None, ships, shares, rate, (), (), bench.labels)
    return fitted, tuple(ways[at] for at in has_say)


def _voters(
    run: runs.Run, recipe: Recipe
) -> tuple[Recipe, list[Member], Float[np.ndarray, "members"]]:
    """Return what ships, one network or the vote of all, with its recipe and its weights."""
    ships = run.facts["ensembling"].get("ships")
    if ships == "vote":
        return recipe, record.members(run), np.array(run.weights)
    if ships == "member" and run.members:
        recipe = recipe.member(record.alone(run.weights))
    # What goes on alone has one cut and one backbone.
    alone = replace(recipe.ensembling, cuts=(), backbones=())
    return replace(recipe, ensembling=alone), [record.shipped(run)], np.ones(1)


def _short(recipe: Recipe) -> Recipe:
    """Shorten a recipe; what would begin late begins at once, for the beginning is done."""
    count = epochs(recipe)
    settings = recipe.imbalance
    if settings.method in imbalance.DEFERRED:
        settings = replace(settings, defer=0.0)
    return replace(recipe, epochs=count, views=min(recipe.views, count), imbalance=settings)


def grown(network: nets.Network, classes: int) -> nets.Network:
    """Copy a network and give its head rows for new classes.

    A new row is the mean of the old ones: a new class starts as likely as an average one,
    and the answers among the old ones stay as they are.
    """
    larger = copy.deepcopy(network).requires_grad_(True)
    if not classes:
        return larger
    old = larger.head
    head = nn.Linear(old.in_features, old.out_features + classes)
    with torch.no_grad():
        rows = old.weight.mean(dim=0, keepdim=True).expand(classes, -1)
        head.weight.copy_(torch.cat([old.weight, rows]))
        head.bias.copy_(torch.cat([old.bias, old.bias.mean().expand(classes)]))
    larger.head = head
    return larger


def _member(
    run: runs.Run, found: Incoming, bench: Bench, start: Member, seed: int, at: int
) -> tuple[Member, float]:
    """Fine-tune one network; with small data also one for each fold, which judges what is new."""
    settings, targets = bench.recipe.imbalance, hard(bench)
    after = settings.method == "adjusted_after"
    rate = RATE * start.rate
    if after:
        # The shift is no part of what was trained: it is made anew for the new counts.
        imbalance.shift_head(start.network.head, _before(run, bench), -settings.factor)
    classes, small = len(bench.split.dataset.classes), not len(bench.split.val)
    asked = np.zeros((len(path.WAYS), len(bench.judged), classes), np.float32)
    for part in parts_of(bench):
        network = copy.deepcopy(start.network)
        begun = path.weights(network)
        trained, steps, decision = train_part(
            bench,
            network,
            rows_of(bench, part, targets, seed),
            part,
            rate,
            seed,
            bench.folder / f"{at}{part.name}.checkpoint",
        )
        ended = path.weights(network)
        if part.name or not small:
            places = np.searchsorted(bench.judged, part.judged)
            for each, way in enumerate(path.WAYS):
                path.put(network, begun, ended, way)
                tail = tail_of(network, bench.recipe)
                asked[each, places] = loop.predict(tail, bench.plain, part.judged, bench.place)
        network.cpu().eval()
    if diverged(trained, asked):
        raise GateRefused(
            f"the fine-tuning diverged at the rate {rate:g}: its loss is no number any more",
            f"train again on all pictures, with optimization.rate below {start.rate:g}",
        )
    unseen = _unseen(found, bench) if small else np.ones(len(bench.judged), bool)
    chosen = path.shortest(asked[:, unseen], bench.labels[unseen])
    logits = asked[chosen]
    path.put(network, begun, ended, path.WAYS[chosen])
    if after:
        # By all that is known, as the next update takes it out, not by what an epoch shows.
        whole = bench.split.dataset.labels[bench.split.train]
        counts = np.bincount(whole, minlength=classes)
        imbalance.shift_head(network.head, counts, settings.factor)
        logits = np.asarray(imbalance.adjusted(logits, counts, settings.factor))
    if small:
        logits = _remembered(run, found, bench, logits)
    made = replace(
        start, network=network, seed=seed, trained=trained, steps=steps, decision=decision,
        logits=logits,
    )  # fmt: skip
    return made, path.WAYS[chosen]


def _unseen(found: Incoming, bench: Bench) -> Bool[np.ndarray, "judged"]:
    """Tell which pictures the running weights have not seen, nor others of their groups."""
    groups = bench.split.dataset.groups
    seen = set(groups[: found.old])
    return np.array([groups[at] not in seen for at in bench.judged.tolist()], bool)


def _before(run: runs.Run, bench: Bench) -> Int64[np.ndarray, "classes"]:
    """Count the run's training pictures, and as many of a new class as of an average one."""
    old = np.bincount(
        run.split.dataset.labels[run.split.train], minlength=len(run.manifest.classes)
    )
    more = len(bench.split.dataset.classes) - len(old)
    return np.concatenate([old, np.full(more, max(1, round(old.mean())))])


def _remembered(run: runs.Run, found: Incoming, bench: Bench, logits: _Logits) -> _Logits:
    """Put what the run's folds said of its own pictures in the place of the new folds'.

    The running weights have seen all old pictures, so only the old folds are fair to them.
    """
    old = np.flatnonzero(bench.judged < found.old)
    hashes = [bench.split.dataset.hashes[index] for index in bench.judged[old].tolist()]
    shares = recorded(run.folder / "predictions.csv", "train", hashes)
    temperature = float(run.facts["training"]["temperature"])
    kept = logits.copy()
    kept[old] = np.log(_UNASKED) * temperature
    kept[old, : shares.shape[1]] = np.log(np.maximum(shares, 1e-12)) * temperature
    return kept
