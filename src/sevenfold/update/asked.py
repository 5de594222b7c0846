"""Say what was asked of an update, and refuse what makes no sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sevenfold.errors import UsageError
from sevenfold.image import shown


@dataclass(frozen=True)
class Asked:
    """Hold what the user asked for.

    Args:
        data: the new pictures: folder, table, or what a server collected.
        moved: where the run's own pictures are now, or "" for where they were.
        columns: names of the new table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        dry_run: whether to say only what would be done.
        accept_corrections: whether new labels of known pictures count.
        relabel: new names by old ones.
        new_classes: that the model is to learn.
        trust_labels: whether to go on though the model disagrees with the new labels.
        seed: of the fine-tuning.
    """

    data: str
    moved: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: str = ""
    dry_run: bool = False
    accept_corrections: bool = False
    relabel: Mapping[str, str] = field(default_factory=dict)
    new_classes: tuple[str, ...] = ()
    trust_labels: bool = False
    seed: int = 0


def relabelling(pairs: Sequence[str]) -> dict[str, str]:
    """Read `old=new` pairs.

    Example:
        >>> relabelling(["kat=cat"])
        {'kat': 'cat'}

    Raises:
        UsageError: a pair is none, does nothing, or names a class a second time.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = (part.strip() for part in pair.partition("="))
        if not (old and equals and new) or old == new:
            raise UsageError(
                f"--relabel {shown(pair)} renames nothing", "write it as --relabel old=new"
            )
        if found.setdefault(old, new) != new:
            raise UsageError(f"--relabel gives {shown(old)} two new names", "name each class once")
    return found
