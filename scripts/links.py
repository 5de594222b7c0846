"""Name the relative links of the documentation that lead to no file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

from readme_tables import ROOT, pages

CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\)")


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere; code is not looked at."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    targets = (unquote(target.split("#")[0]) for target in LINK.findall(text))
    local = (t for t in targets if t and "://" not in t and not t.startswith("mailto:"))
    return [target for target in local if not (page.parent / target).exists()]


def main(root: Path = ROOT) -> int:
    """Print each broken link and return the exit status."""
    broken = [(page.relative_to(root), link) for page in pages(root) for link in broken_links(page)]
    for page, link in broken:
        print(f"{page.as_posix()}: the link {link} leads nowhere")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
