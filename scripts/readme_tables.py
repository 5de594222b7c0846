"""Fill the tables of the documentation from measurements.

A page marks a table by `<!-- benchmark:NAME -->` and `<!-- /benchmark -->`. Between
them stands what `benchmarks/results/NAME.jsonl` says: each of its lines that has a
`table`, an object of column and value, is a row, and a `title` stands above them.

`python3 scripts/readme_tables.py` writes the tables; with `--check` it names the
pages whose tables are out of date. Where a table's results are missing it writes
nothing and names them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("benchmarks") / "results"
BLOCK = re.compile(r"(<!-- benchmark:([\w-]+) -->\n)(.*?)(<!-- /benchmark -->)", re.DOTALL)

Row = Mapping[str, Any]


def pages(root: Path) -> list[Path]:
    """Return the project's own Markdown pages."""
    folders = (root / name for name in ("docs", "benchmarks", "examples"))
    return sorted([*root.glob("*.md"), *(p for folder in folders for p in folder.rglob("*.md"))])


def results(folder: Path, name: str) -> list[Row]:
    """Return the lines of one result file."""
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def section(lines: Sequence[Row]) -> str:
    """Write the titles and the table that the lines of a result file offer."""
    titles = [f"{cell(line['title'])}\n\n" for line in lines if "title" in line]
    body = table([line["table"] for line in lines if "table" in line])
    return "".join([*titles, body]) if body else ""


def table(rows: Sequence[Row]) -> str:
    """Write rows as a Markdown table whose columns stand in order of first use."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return ""
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(column, "")) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: object) -> str:
    """Write one value: three decimals under ten, one above, text without table marks."""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("|", "\\|")


def fill(text: str, folder: Path) -> str:
    """Return a page with each of its tables as the results in the folder have it now."""
    return BLOCK.sub(lambda m: m[1] + section(results(folder, m[2])) + m[4], text)


def missing(texts: Iterable[str], root: Path) -> list[Path]:
    """Return what the tables of these pages are made of and that does not exist."""
    names = dict.fromkeys(found[2] for text in texts for found in BLOCK.finditer(text))
    if names and not (root / RESULTS).is_dir():
        return [RESULTS]
    files = (RESULTS / f"{name}.jsonl" for name in names)
    return [path for path in files if not (root / path).is_file()]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the tables, or check them, and return the exit status."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages(root)}
    if lost := missing(texts.values(), root):
        said = ", ".join(path.as_posix() for path in lost)
        print(f"error: nothing was written, since results are missing: {said}", file=sys.stderr)
        return 1
    stale = []
    for page, text in texts.items():
        filled = fill(text, root / RESULTS)
        if filled == text:
            continue
        stale.append(page.relative_to(root).as_posix())
        if "--check" not in arguments:
            page.write_text(filled, encoding="utf-8", newline="\n")
    if "--check" not in arguments or not stale:
        return 0
    print("out of date:", *stale, "\n  try: python3 scripts/readme_tables.py")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
