"""What holds for all seven practices, and that each is refused where it is not built."""

import dataclasses
import importlib
import tomllib
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sevenfold import train
from sevenfold.errors import UsageError
from sevenfold.practices import (
    augmentation,
    ensembling,
    growth,
    imbalance,
    optimization,
    pruning,
    transfer,
)
from sevenfold.progress import silent
from sevenfold.recipe import PRACTICES, Recipe, apply, read, to_toml

RECIPE = Recipe()


def kind(practice: str) -> Any:
    return type(getattr(RECIPE, practice))


every = pytest.mark.parametrize("practice", PRACTICES)


def test_there_are_seven():
    assert len(PRACTICES) == 7
    assert [field.name for field in dataclasses.fields(Recipe)][-7:] == list(PRACTICES)


@every
def test_settings_are_a_frozen_value(practice):
    settings = kind(practice)()
    assert dataclasses.is_dataclass(settings)
    assert settings == kind(practice)()
    assert hash(settings) == hash(kind(practice)())
    name = dataclasses.fields(settings)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(settings, name, getattr(settings, name))


@every
def test_settings_live_in_the_module_of_their_name(practice):
    module = importlib.import_module(f"sevenfold.practices.{practice}")
    assert kind(practice) is getattr(module, practice.capitalize())
    assert module.__doc__.startswith(f"Practice {PRACTICES.index(practice) + 1}: ")


@every
def test_off_is_a_value_like_any_other(practice):
    off = kind(practice).off
    assert isinstance(off, kind(practice))
    assert replace(off) == off
    assert all(value is not None for value in vars(off).values())


@every
def test_without_gives_off_and_touches_nothing_else(practice):
    found = RECIPE.without(practice)
    assert getattr(found, practice) == kind(practice).off
    assert replace(found, **{practice: getattr(RECIPE, practice)}) == RECIPE
    assert found.without(practice) == found


@every
def test_off_is_a_word_of_the_command_line_and_of_toml(practice, tmp_path):
    assert apply(RECIPE, [f"{practice}=off"]) == RECIPE.without(practice)
    (tmp_path / "word.toml").write_text(f'{practice} = "off"', encoding="utf-8")
    assert read(tmp_path / "word.toml", RECIPE) == RECIPE.without(practice)
    with pytest.raises(UsageError, match="there is no setting"):
        apply(RECIPE, [f"{practice}=on"])


@every
def test_off_goes_through_toml_and_back(practice, tmp_path):
    text = to_toml(RECIPE.without(practice))
    (tmp_path / "off.toml").write_text(text, encoding="utf-8")
    assert read(tmp_path / "off.toml", RECIPE) == RECIPE.without(practice)
    wanted = {
        name: list(held) if isinstance(held, tuple) else held
        for name, held in vars(kind(practice).off).items()
    }
    assert tomllib.loads(text)[practice] == wanted


@every
def test_every_setting_can_be_set_by_its_name(practice):
    for name, value in vars(kind(practice).off).items():
        text = str(value).lower() if isinstance(value, bool) else repr(value)
        text = repr(list(value)) if isinstance(value, tuple) else text
        found = apply(RECIPE, [f"{practice}.{name}={text}"])
        assert getattr(getattr(found, practice), name) == value


@every
def test_plain_types_alone(practice):
    for value in vars(kind(practice)()).values():
        assert type(value) in (bool, int, float, str, dict, tuple)


REFUSED = {
    "imbalance.strength=0.5": lambda r: imbalance.check(r.imbalance),
    "ensembling.vote=hard": lambda r: ensembling.check(r.ensembling),
    "pruning.steps=3": lambda r: pruning.check(r.pruning),
    "optimization.name=adagrad": lambda r: optimization.optimizer(r.optimization, []),
}


@pytest.mark.parametrize("override", REFUSED)
def test_more_than_there_is_is_refused_by_its_name(override):
    recipe = apply(RECIPE, [override])
    with pytest.raises(UsageError) as caught:
        REFUSED[override](recipe)
    assert override.partition("=")[0] in caught.value.problem
    assert override.partition("=")[0].split(".")[0] in caught.value.cure + caught.value.problem


@pytest.mark.parametrize(
    "override", ["ensembling.distil=true", "imbalance.strength=0.5", "pruning.steps=3"]
)
def test_it_is_refused_before_any_work(override):
    recipe = apply(RECIPE, [override])
    nothing: Any = None
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        train.fit(
            recipe,
            nothing,
            seed=0,
            place=nothing,
            pixels=nothing,
            folder=nothing,
            progress=silent,
        )


def test_off_does_nothing_where_an_identity_exists():
    split = SimpleNamespace(train=np.array([1, 3, 4]))
    assert growth.given(split, growth.Growth.off, seed=0) is split.train
    assert ensembling.Ensembling.off.members == 1
    pruning.check(pruning.Pruning.off, voters=5)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    view = augmentation.viewer(augmentation.Augmentation.off, 32, "").make(picture, 1, 2)
    np.testing.assert_array_equal(view, picture)


def test_off_is_sgd_with_momentum_and_a_random_start():
    weight = torch.nn.Parameter(torch.zeros(1))
    moved = optimization.optimizer(optimization.Optimization.off, [{"params": [weight], "lr": 0.1}])
    assert isinstance(moved, torch.optim.SGD)
    assert moved.param_groups[0]["momentum"] > 0
    off = transfer.Transfer.off
    assert off.weights == "random"
    assert off.trainable_blocks == transfer.ALL_BLOCKS


def test_the_settings_that_are_built_do_what_they_say():
    settings = transfer.Transfer(backbone="plain20", weights="random")
    assert len(transfer.build(settings, 3, 32, 0)[0].blocks) == 10
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    flip = replace(augmentation.Augmentation.off, flip=1.0)
    np.testing.assert_array_equal(
        augmentation.viewer(flip, 32, "").make(picture, 1, 2), picture[:, ::-1]
    )
    assert optimization.probe(optimization.Optimization(rate=0.5), lambda _: 1 / 0)[0] == 0.5
