"""Keep a deployed model learning: more data in, and a new version only if it does no harm."""

from sevenfold.update.asked import Asked
from sevenfold.update.work import update

__all__ = ["Asked", "update"]
