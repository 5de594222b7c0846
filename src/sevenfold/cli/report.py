"""Show what studies found in the report of a run."""

from pathlib import Path

from sevenfold.cli.options import app
from sevenfold.terminal import show


@app.command
def report(run: Path, /, *studies: Path, json: bool = False) -> None:
    """Add studies to the report of a run, or write the report anew.

    Args:
        run: the folder that `train` wrote.
        studies: folders of `evidence` and `curve`, or their JSON files.
        json: print one JSON object instead of a summary.
    """
    from sevenfold.studies.append import append

    facts = append(run, studies)
    told = f"added {' and '.join(facts['added'])} to" if facts["added"] else "wrote"
    show(facts, [f"{told} {facts['report']}"], as_json=json)
