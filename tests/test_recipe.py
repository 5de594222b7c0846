import dataclasses
import tomllib
import typing
from dataclasses import replace

import pytest

from sevenfold import job
from sevenfold import recipe as recipes
from sevenfold.errors import UsageError
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.optimization import Optimization
from sevenfold.practices.transfer import Transfer
from sevenfold.ranges import Choice, Range
from sevenfold.recipe import PRACTICES, Recipe, apply, asked, default, read, sources, to_toml

OFF = Recipe(**{name: type(getattr(Recipe(), name)).off for name in PRACTICES})
ODD = Recipe(
    objective="accuracy",
    side=33,
    optimization=Optimization(rate=1e-05, momentum=1 / 3),
    transfer=Transfer(weights='C:\\new "weights"\n\x7f\x00é😀#.pth', sha256="ab"),
    ensembling=Ensembling(mirror=True),
    augmentation=Augmentation(
        quarter_turns=True,
        crop=0.1 + 0.2,
        class_strength={'a "b".c = {é😀#}': 1 / 3, "": 2.0},
        class_off={"left\n": "flip, crop"},
    ),
)


def bounds() -> list[tuple[str, Range]]:
    """List every setting that has a range."""
    found = []
    for prefix, kind in [("", Recipe), *((f"{n}.", type(getattr(Recipe(), n))) for n in PRACTICES)]:
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            rules = getattr(hints[field.name], "__metadata__", ())
            found += [(prefix + field.name, rule) for rule in rules if isinstance(rule, Range)]
    return found


def whole(name: str) -> bool:
    return isinstance(value(Recipe(), name), int)


def value(recipe: Recipe, name: str) -> object:
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return recipe


@pytest.mark.parametrize(
    "recipe", [Recipe(), OFF, ODD, default("normal"), default("thorough")], ids=range(5)
)
def test_toml_gives_the_recipe_back(recipe, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")
    for base in (Recipe(), OFF, ODD):
        assert read(path, base) == recipe


def test_toml_explains_every_setting():
    lines = to_toml(Recipe()).splitlines()
    settings = [line for line in lines if " = " in line and not line.startswith("#")]
    names = [field.name for field in dataclasses.fields(Recipe) if field.name not in PRACTICES]
    for practice in PRACTICES:
        names += [field.name for field in dataclasses.fields(getattr(Recipe(), practice))]
    assert len(settings) == len(names)
    for line in settings:
        assert len(line.partition("  # ")[2]) > 10, line


def test_toml_says_which_practices_are_in_use():
    assert "[augmentation]  # practice 5, in use" in to_toml(Recipe())
    for practice in PRACTICES:
        number = PRACTICES.index(practice) + 1
        assert f"[{practice}]  # practice {number}, off" in to_toml(OFF)


def test_a_recipe_says_where_each_setting_comes_from(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("side = 64\neffort = 2.0\n[ensembling]\nmembers = 3\n", encoding="utf-8")
    found = asked("normal", str(path), ["side=96", "views=0"])
    assert (found.side, found.effort, found.ensembling.members) == (96, 2.0, 3)
    told = sources(found, "normal", str(path))
    assert told["side"] == "--set"
    assert told["effort"] == str(path)
    assert told["ensembling.members"] == str(path)
    assert told["augmentation.mixup"] == "--budget normal"
    assert "views" not in told  # as by default
    assert "batch" not in told
    lines = to_toml(found, told).splitlines()
    assert [line.rpartition(" [")[2] for line in lines if line.startswith("side = ")] == ["--set]"]
    assert tomllib.loads("\n".join(lines)) == tomllib.loads(to_toml(found))


def test_a_file_may_hold_a_few_settings(tmp_path):
    path = tmp_path / "few.toml"
    path.write_text('side = 64\n[transfer]\nbackbone = "resnet20"\n', encoding="utf-8")
    found = read(path, ODD)
    assert found == replace(ODD, side=64, transfer=replace(ODD.transfer, backbone="resnet20"))


@pytest.mark.parametrize(
    ("override", "problem", "cure"),
    [
        ("sdie=64", "'sdie'", "'side'"),
        ("transfer.backbon=resnet20", "'transfer.backbon'", "'transfer.backbone'"),
        ("augmentation.flp=1", "'augmentation.flp'", "'augmentation.flip'"),
        ("transfr.backbone=x", "'transfr'", "transfer."),
        ("transfer=3", "'transfer'", ""),
        ("side.large=3", "'side'", ""),
        ("side", "has no value", "name=value"),
        ("side=", "side", ""),
        ("side=12.5", "12.5", ""),
        ("side=true", "True", ""),
        ("side='64'", "64", ""),
        ("side=2020-01-01", "2020", ""),
        ("side=15", "side = 15", "at least 16"),
        ("batch=1", "batch = 1", "at least 2"),
        ("augmentation.flip=1.1", "augmentation.flip = 1.1", "at most 1"),
        ("augmentation.flip=nan", "augmentation.flip = nan", "at least 0"),
        ("augmentation.crop=0", "augmentation.crop = 0", "above 0"),
        ("augmentation.crop=yes", "'yes' is not a number", ""),
        ("augmentation.quarter_turns=1", "1 is neither true nor false", ""),
        ("optimization.momentum=1.0", "optimization.momentum = 1.0", "below 1"),
        ("optimization.rate=inf", "optimization.rate = inf", "at most 10"),
        ("transfer.backbone=3", "3 is not a text", ""),
        ("transfer.backbone=[1]", "is not a text", ""),
        ("objective=acuracy", "'acuracy'", "'accuracy'"),
        ("augmentation.class_strength=3", "3 is not a table", ""),
        ("augmentation.class_strength=[1]", "[1] is not a table", ""),
        ("augmentation.class_strength.cat=x", "'x' is not a number", ""),
        ("augmentation.class_strength.cat=3.1", "cat = 3.1 is out of range", "at most 3"),
        ("augmentation.class_strength={cat=-1}", "cat = -1.0 is out of range", "at least 0"),
        ("augmentation.class_off.cat=3", "3 is not a text", ""),
        ("augmentation.class_strenth.cat=2", "class_strenth", "'augmentation.class_strength'"),
        ("transfer.backbone.cat=2", "'transfer.backbone.cat'", "'transfer.backbone'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_cure(override, problem, cure):
    with pytest.raises(UsageError) as caught:
        apply(Recipe(), [override])
    assert problem in caught.value.problem
    assert override.partition("=")[0] in caught.value.problem
    assert cure in caught.value.cure
    assert "\n" not in caught.value.problem + caught.value.cure


@pytest.mark.parametrize(("name", "rule"), bounds(), ids=lambda part: str(part))
def test_every_range_holds_at_its_ends_and_not_beyond(name, rule):
    step = 1 if whole(name) else 1e-6
    for end, outward, excluded in ((rule.low, -1, rule.above), (rule.high, 1, rule.below)):
        inside = end - outward * step if excluded else end
        beyond = end if excluded else end + outward * step
        inside, beyond = (int(x) if whole(name) else float(x) for x in (inside, beyond))
        assert value(apply(Recipe(), [f"{name}={inside!r}"]), name) == inside
        with pytest.raises(UsageError, match="out of range"):
            apply(Recipe(), [f"{name}={beyond!r}"])


def test_every_default_is_in_its_range():
    for name, rule in bounds():
        for recipe in (Recipe(), OFF, *map(default, recipes.BUDGETS)):
            assert rule.holds(value(recipe, name)), name


def test_ranges_and_choices_say_what_they_hold():
    assert str(Range(0, 1)) == "at least 0 and at most 1"
    assert str(Range(0, 1, above=True, below=True)) == "above 0 and below 1"
    assert not Range(0, 1).holds(float("nan"))
    assert Choice(("a", "b")).words == ("a", "b")


def test_settings_are_applied_in_order_and_the_base_stays():
    base = Recipe()
    found = apply(
        base,
        [
            "side=64",
            " side = 96 ",
            "transfer.weights=random",
            'transfer.sha256="ab"',
            "augmentation.blur=1",
            "transfer={trainable_blocks=3}",
            "ensembling.mirror=true",
        ],
    )
    assert found.side == 96
    assert found.transfer == replace(
        base.transfer, weights="random", sha256="ab", trainable_blocks=3
    )
    assert found.augmentation.blur == 1.0
    assert isinstance(found.augmentation.blur, float)
    assert found.ensembling.mirror is True
    assert base == Recipe()


def test_a_table_grows_by_a_name_and_is_replaced_as_a_whole():
    base = apply(Recipe(), ["augmentation.class_strength={cat=2, dog=0.5}"])
    assert base.augmentation.class_strength == {"cat": 2.0, "dog": 0.5}
    found = apply(base, ["augmentation.class_strength.cat=1", "augmentation.class_strength.v1.0=3"])
    assert found.augmentation.class_strength == {"cat": 1.0, "dog": 0.5, "v1.0": 3.0}
    assert all(type(one) is float for one in found.augmentation.class_strength.values())
    found = apply(found, ["augmentation.class_off.dog=flip", "augmentation.class_strength={}"])
    assert found.augmentation.class_strength == {}
    assert found.augmentation.class_off == {"dog": "flip"}
    assert Recipe().augmentation.class_strength == {}


@pytest.mark.parametrize("practice", PRACTICES)
def test_without_turns_one_practice_off(practice):
    found = ODD.without(practice)
    assert getattr(found, practice) == type(getattr(ODD, practice)).off
    for other in PRACTICES:
        if other != practice:
            assert getattr(found, other) == getattr(ODD, other)
    assert (found.side, found.objective) == (ODD.side, ODD.objective)


def test_without_knows_its_practices():
    with pytest.raises(UsageError, match="'prunning' is no practice") as caught:
        Recipe().without("prunning")
    assert "'pruning'" in caught.value.cure


def test_budgets_grow():
    quick, normal, thorough = map(default, recipes.BUDGETS)
    assert quick == Recipe()
    assert quick.effort < normal.effort < thorough.effort
    assert [one.ensembling.members for one in (quick, normal, thorough)] == [1, 2, 5]
    assert normal.ensembling.average
    assert thorough.ensembling.distil
    assert normal.imbalance.trainings > quick.imbalance.trainings


@pytest.mark.parametrize(
    ("time", "budget"),
    [
        ("90s", "quick"),
        ("14.9m", "quick"),
        ("15m", "normal"),
        ("20m", "normal"),
        ("20 m", "normal"),
        ("40m", "normal"),
        ("2h", "thorough"),
    ],
)
def test_a_time_takes_the_budget_that_fits(time, budget):
    assert default(time) == default(budget)


def test_a_time_says_what_it_stands_for():
    assert job._stands_for("5m").startswith("--budget 5m stands for quick")
    assert job._stands_for("2h").startswith("--budget 2h stands for thorough")
    assert job._stands_for("normal") == ""


@pytest.mark.parametrize("budget", ["fast", "", "20", "-5m", "20m "])
def test_another_budget_is_refused(budget):
    with pytest.raises(UsageError, match="is no budget") as caught:
        default(budget)
    assert "20m" in caught.value.cure


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"side = ", "is not TOML"),
        (b"side = 64\nside = 65", "is not TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b"[transfer]\nbackbon = 'x'", "transfer.backbon"),
        (b"colour = 3", "'colour'"),
        (b"[pruning.deep]\nx = 1", "pruning.deep"),
        (b"[[transfer]]\nx = 1", "'transfer'"),
        (b"side = 64\nbatch = 'a'", "'a' is not a whole number"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, problem):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read(path, Recipe())
    assert problem in caught.value.problem
    assert "recipe.toml" in caught.value.problem


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read(path, Recipe())


def test_toml_of_the_package_is_plain():
    text = to_toml(ODD)
    assert tomllib.loads(text)["transfer"]["weights"] == ODD.transfer.weights
    assert "\x00" not in text


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (["transfer.backbone=resnet18"], "hub"),
        (["transfer.weights=random", "transfer.backbone=resnet18"], "random"),
        (["transfer.backbone=resnet18", "transfer.weights=a.safetensors"], "a.safetensors"),
        (["transfer.dropout=0.1"], "packaged"),
        (["transfer.backbone=resnet20"], "packaged"),  # which is refused: it has none
    ],
)
def test_a_backbone_that_is_named_brings_its_own_weights(given, weights):
    assert apply(Recipe(), given).transfer.weights == weights
