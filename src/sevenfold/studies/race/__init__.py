"""Race what differs in one practice alone: the same search, fresh seeds, held-out figures.

`field` lines up who races, `search` what each tries, `carving` gives the pictures their
roles, `trials` trains, `course` runs what is missing, `judging` weighs the judged pictures,
`contrasts` judges differences, `standings` sums up, and `page` shows it.
"""

from sevenfold.studies.race.course import race
from sevenfold.studies.race.field import CONTESTANTS, TRIALS, Asked, check

__all__ = ["CONTESTANTS", "TRIALS", "Asked", "check", "race"]
