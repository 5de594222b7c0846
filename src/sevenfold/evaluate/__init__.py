"""Turn probabilities and true classes into scores, each with a 95 % interval.

Accuracy and recall are proportions and get Wilson's interval (1927). Everything
else gets the percentile bootstrap (Efron, 1979): it stays within a score's range
and follows its skew. BCa would add a jackknife over all pictures to correct a
second-order error, which at the sizes where it shows is smaller than that of the
bootstrap itself; few groups are flagged instead (`Scores.trustworthy`).

Where pictures come in groups (a patient, a site), whole groups are resampled, and the
draws are spread by what few groups leave unknown (`widened`).
For proportions Wilson's interval over the pictures is then the least that is
claimed: a bootstrap of answers that are all right is a point.
"""

from sevenfold.evaluate.calibration import CALIBRATED, as_chances, calibration_error, chunks
from sevenfold.evaluate.estimate import Estimate, as_unsure_as, widened, wilson
from sevenfold.evaluate.likelihood import confusion, losses, nll, worst_mistakes
from sevenfold.evaluate.resampling import counter
from sevenfold.evaluate.scores import (
    FEWEST_GROUPS,
    FEWEST_PICTURES,
    Scores,
    flat,
    score,
    too_few,
)
from sevenfold.evaluate.temperature import (
    calibrated_losses,
    calibrated_nll,
    fit_temperature,
    log_loss,
)

__all__ = [
    "CALIBRATED",
    "FEWEST_GROUPS",
    "FEWEST_PICTURES",
    "Estimate",
    "Scores",
    "as_chances",
    "as_unsure_as",
    "calibrated_losses",
    "calibrated_nll",
    "calibration_error",
    "chunks",
    "confusion",
    "counter",
    "fit_temperature",
    "flat",
    "log_loss",
    "losses",
    "nll",
    "score",
    "too_few",
    "widened",
    "wilson",
    "worst_mistakes",
]
