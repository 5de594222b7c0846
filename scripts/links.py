"""Name links that lead nowhere, and files that pages and code name and that do not exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

from readme_tables import ROOT, pages

CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"\b((?:benchmarks|docs|scripts|src|tests)/[\w/-]+\.(?:md|py))\b")
LINK = re.compile(r"\]\(<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\)")


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere; code is not looked at."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    targets = (unquote(target.split("#")[0]) for target in LINK.findall(text))
    local = (t for t in targets if t and "://" not in t and not t.startswith("mailto:"))
    return [target for target in local if not (page.parent / target).exists()]


def missing_files(root: Path) -> list[tuple[Path, str]]:
    """Return the project's own files that a page or a program names and that do not exist.

    What the log tells of the past may be gone.
    """
    folders = (root / name for name in ("src", "benchmarks", "scripts", "tests"))
    code = (path for folder in folders for path in folder.rglob("*.py"))
    return [
        (path, name)
        for path in sorted([*pages(root), *code])
        if path.name != "log.md"
        for name in dict.fromkeys(NAMED.findall(path.read_text(encoding="utf-8")))
        if not (root / name).exists()
    ]


def main(root: Path = ROOT) -> int:
    """Print each broken link and missing file, and return the exit status."""
    broken = [(page, link) for page in pages(root) for link in broken_links(page)]
    for page, link in [*broken, *(missing := missing_files(root))]:
        print(f"{page.relative_to(root).as_posix()}: {link} leads nowhere")
    return int(bool(broken or missing))


if __name__ == "__main__":
    sys.exit(main())
