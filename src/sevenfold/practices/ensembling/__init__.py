"""Practice 6: let several models vote.

`settings` says who votes and how, `votes` pools, `selection` finds the weights,
`averaging` makes one network of several,
`diversity` says what there is to gain, and `graph` holds it all in one file.
"""

from sevenfold.practices.ensembling.averaging import averaged
from sevenfold.practices.ensembling.diversity import Diversity, diversity
from sevenfold.practices.ensembling.selection import greedy, mixture
from sevenfold.practices.ensembling.settings import Ensembling, check, seed_of, turn, weigh
from sevenfold.practices.ensembling.votes import VOTES, log_softmax, pool

__all__ = [
    "VOTES",
    "Diversity",
    "Ensembling",
    "averaged",
    "check",
    "diversity",
    "greedy",
    "log_softmax",
    "mixture",
    "pool",
    "seed_of",
    "turn",
    "weigh",
]
