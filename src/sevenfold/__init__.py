"""Turn a folder of labelled photos into a small, verified image classifier.

The names below are loaded when they are first used, so that `import sevenfold`
costs nothing and a deployed model never meets torch. Where what a name needs is
not installed, a `ResourceError` says how to install it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevenfold.data import Dataset, Split, read, split  # type: ignore[no-redef]
    from sevenfold.errors import SevenfoldError
    from sevenfold.estimator import SevenfoldClassifier
    from sevenfold.evaluate import Scores, score
    from sevenfold.job import train_run
    from sevenfold.predict import Predictor, load
    from sevenfold.recipe import Recipe
    from sevenfold.studies.evidence import Evidence, measure
    from sevenfold.train import Fitted, fit

__all__ = [
    "Dataset",
    "Evidence",
    "Fitted",
    "Predictor",
    "Recipe",
    "Scores",
    "SevenfoldClassifier",
    "SevenfoldError",
    "Split",
    "fit",
    "load",
    "measure",
    "read",
    "score",
    "split",
    "train_run",
]

_HOMES = {
    "Dataset": "data",
    "Evidence": "studies.evidence",
    "Fitted": "train",
    "Predictor": "predict",
    "Recipe": "recipe",
    "Scores": "evaluate",
    "SevenfoldClassifier": "estimator",
    "SevenfoldError": "errors",
    "Split": "data",
    "fit": "train",
    "load": "predict",
    "measure": "studies.evidence",
    "read": "data",
    "score": "evaluate",
    "split": "data",
    "train_run": "job",
}
_MODULES = ("answers", "predict", "recipe")  # which the documentation names


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sevenfold")
    if name not in _HOMES and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOMES.get(name, name)}")
    except ModuleNotFoundError as error:
        from sevenfold.errors import lacks

        # No AttributeError: the name is there, and `hasattr` would keep the cure to itself.
        if lacking := lacks(error):
            raise lacking from error
        raise
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES, "__version__"})
