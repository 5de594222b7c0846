"""Decide with probabilities: which class is answered, and when the answer is *not sure*.

An operating point is a small table that anything can carry out, in any language:

```
answer = argmin over k of  Σ_t p_t · costs[t][k]        where there are costs, else
         argmax over k of  weights[k] · p_k
sure   = p_answer ≥ thresholds[answer]
```

It is chosen on pictures that no weight was trained on, by one of three rules: the
error among the answered is halved (without being asked), a class is found as often as
asked, or the mistakes cost the least.
"""

from sevenfold.operating.choosing import choose, halving
from sevenfold.operating.point import (
    CHOOSING,
    SCHEMA,
    Operating,
    decide,
    from_card,
    plain,
    to_card,
)
from sevenfold.operating.promise import CONFIDENCE, check, needed, rank, separate
from sevenfold.operating.wish import Wish, read_costs, read_recalls, renamed

__all__ = [
    "CHOOSING",
    "CONFIDENCE",
    "SCHEMA",
    "Operating",
    "Wish",
    "check",
    "choose",
    "decide",
    "from_card",
    "halving",
    "needed",
    "plain",
    "rank",
    "read_costs",
    "read_recalls",
    "renamed",
    "separate",
    "to_card",
]
