"""Make the model of a finished run anew from what the run holds."""

from sevenfold.remake.asked import Asked
from sevenfold.remake.distil import distil
from sevenfold.remake.prune import prune

__all__ = ["Asked", "distil", "prune"]
