"""Measure what each of the seven practices contributes, on the data at hand.

`arms` says what is trained with and without each practice, `folds` gives the pictures
their roles, `trials` trains, `course` runs what is missing, and `study` joins them.
`outcomes` is what they hand to `effects`, which weighs it; `facts`, `advice`, `page` and
`table` tell it.
"""

from sevenfold.studies.evidence.course import EVIDENCE_BLOCKS, Asked
from sevenfold.studies.evidence.effects import Evidence
from sevenfold.studies.evidence.folds import CLAIMING
from sevenfold.studies.evidence.study import evidence, measure
from sevenfold.studies.pictures import Reading
from sevenfold.studies.where import Where

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
