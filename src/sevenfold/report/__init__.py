"""Tell the results of a run: one self-contained HTML page, and the model card of a bundle.

The page opens with a verdict in words made from the numbers, and never says more than they allow:
every score stands beside its interval and beside what a constant answer would reach.

`words` writes numbers, `verdict` makes the first screen, `curves` the training, `vote` and `rare`
what those practices did, `page` the other sections and the bounds, `card` the model card.
"""

from sevenfold.report.card import answer_rule, model_card
from sevenfold.report.page import render

__all__ = ["answer_rule", "model_card", "render"]
