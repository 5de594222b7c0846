"""A setting of augmentation, imbalance or optimization that would do nothing is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sevenfold.errors import UsageError
from sevenfold.practices import optimization
from sevenfold.practices.augmentation import Augmentation, grey, refuse_grey, refuse_idle
from sevenfold.practices.augmentation.settings import WIDE
from sevenfold.practices.optimization import Optimization

TRIVIAL = Augmentation(policy="trivial")
OFF = Augmentation.off


@pytest.mark.parametrize("name", WIDE)
def test_a_range_is_refused_where_the_policy_draws_its_own(name: str) -> None:
    value: Any = 1.5 if name == "stretch" else 0.4
    with pytest.raises(UsageError, match=f"augmentation.{name} = {value}") as caught:
        refuse_idle(replace(TRIVIAL, **{name: value}))
    assert name in caught.value.cure
    if name not in ("noise", "erasing"):
        refuse_idle(replace(OFF, **{name: value}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (replace(TRIVIAL, policy_strength=0.0), "policy = 'trivial'"),
        (Augmentation(policy_strength=2.0), "policy_strength = 2.0"),
        (Augmentation(left_out="hue"), "left_out = 'hue'"),
        (Augmentation(noise_sigma=0.2), "noise_sigma = 0.2"),
        (Augmentation(noise=0.5, noise_sigma=0.0), "noise = 0.5"),
        (replace(TRIVIAL, left_out="noise", noise_sigma=0.2), "noise_sigma = 0.2"),
        (Augmentation(erasing_area=0.3), "erasing_area = 0.3"),
        (Augmentation(erasing_fill="noise"), "erasing_fill = 'noise'"),
        (Augmentation(insist=True, label_check="off"), "insist = true"),
        (replace(OFF, class_strength={"a": 2.0}), "class_strength.a = 2"),
        (replace(OFF, flip=0.5, class_strength={"a": 2.0}), "class_strength.a = 2"),
        (Augmentation(class_off={"a": "crop, hue"}), "class_off.a names hue"),
        (Augmentation(class_off={"a": "flop"}), "'flop', which does not exist"),
        (replace(TRIVIAL, left_out="hue", class_off={"a": "hue"}), "class_off.a names hue"),
    ],
)
def test_it_is_refused_by_its_name(settings: Augmentation, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_idle(settings)
    assert told in caught.value.problem


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(),
        OFF,
        TRIVIAL,
        replace(TRIVIAL, policy_strength=0.5, left_out="hue", noise_sigma=0.2, erasing_area=0.3),
        replace(TRIVIAL, flip=0.0, crop=1.0, class_off={"a": "hue"}, class_strength={"a": 0.5}),
        Augmentation(noise=0.5, noise_sigma=0.2, erasing=0.1, erasing_fill="noise"),
        Augmentation(class_strength={"a": 1.0, "b": 0.0}, class_off={"a": "flip"}, insist=True),
        replace(OFF, mixup=0.2, cutmix=1.0),
    ],
)
def test_what_acts_passes(settings: Augmentation) -> None:
    refuse_idle(settings)


GREY = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
COLOURED = GREY + np.array([0, 0, 9], np.uint8)


@pytest.mark.parametrize(
    ("settings", "told"),
    [(Augmentation(hue=0.02), "hue = 0.02"), (Augmentation(saturation=0.4), "saturation = 0.4")],
)
def test_colours_are_refused_where_no_picture_has_any(settings: Augmentation, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        refuse_grey(settings, [GREY, GREY])
    refuse_grey(settings, [GREY, COLOURED, GREY])


@pytest.mark.parametrize("settings", [Augmentation(), OFF, TRIVIAL, Augmentation(saturation=0.0)])
def test_nothing_is_refused_of_grey_pictures_that_nobody_asked_for(settings: Augmentation) -> None:
    refuse_grey(settings, iter(()))  # and none is looked at
    refuse_grey(settings, [GREY])


def test_a_tint_that_nobody_sees_is_grey() -> None:
    assert grey(GREY)
    assert grey(GREY + np.array([0, 0, 3], np.uint8))
    assert not grey(COLOURED)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Optimization(name="adadelta", momentum=0.5), "momentum = 0.5 does nothing for adadelta"),
        (Optimization(name="adam", nesterov=True), "nesterov = true"),
        (Optimization(name="sgd", criterion="paper"), "criterion = 'paper'"),
    ],
)
def test_what_an_optimizer_would_ignore_is_refused(settings: Optimization, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        optimization.check(settings)
    assert told in caught.value.problem
