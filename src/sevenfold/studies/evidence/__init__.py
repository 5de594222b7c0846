"""Measure what each of the seven practices contributes, on the data at hand.

`arms` says what is trained with and without each practice, `folds` gives the pictures
their roles, `trials` trains, `engines` and `ray_engine` say where, `course` runs what is
missing, and `study` joins them. `outcomes` is what they hand to `effects`, which weighs
it; `facts`, `advice`, `page` and `table` tell it.
"""

from sevenfold.studies.evidence.course import EVIDENCE_BLOCKS, Asked, Reading
from sevenfold.studies.evidence.effects import Evidence
from sevenfold.studies.evidence.folds import CLAIMING
from sevenfold.studies.evidence.study import Where, evidence, measure

__all__ = [
    "CLAIMING",
    "EVIDENCE_BLOCKS",
    "Asked",
    "Evidence",
    "Reading",
    "Where",
    "evidence",
    "measure",
]
