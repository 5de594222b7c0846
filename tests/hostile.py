"""Make up a thousand hostile names of classes and files."""

import random

SEEDS = (
    "<script>document.title='run'</script>",
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=document.title='run'>",
    '"><svg onload=document.title="run">',
    "' onmouseover='document.title=1' x='",
    "</title></style></textarea></select></option><iframe srcdoc=x>",
    "<!--", "-->", "]]>", "<![CDATA[", "&lt;b&gt;", "&#60;b&#62;", "<b", "&", "`", "</bdi>",
    "javascript:document.title='run'", "data:text/html,<script>1</script>",
    "{{ 7 * 7 }}", "{% raw %}", "${7*7}", "#{7*7}", "<%= 7 %>",
    '=cmd|"/C calc"!A0', "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", "'=1", "''=1",
    " =1+1", '"=1+1"', ";=1+1", "a,b", 'a"b', "a;b", "'", '"', '""', ",", ",,\n,,",
    "\n", "\r\n", "\r", "a\nb", "a\rb", "a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\u2029b",
    "\x00", "a\x00b", "\x07", "\x08\x08\x08", "\x7f", "\x9b31m", "\x9d0;title\x9c",
    "\x1b[2J\x1b[H", "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x07y", "\x1bPq\x1b\\",
    "\u202egpj.exe", "\u2066a\u2069", "\u200f", "\u061c", "\u200b", "\ufeff", "\u00ad",
    "\U000e0041",
    "a\\", "\\n", "a\\b", "a}b", "{", "}", 'label="x"} 1', "# HELP x", "# TYPE x counter",
    "x 1\ny 2",
    "[a](javascript:1)", "![a](http://x/y.png)", "| a | b |", "# h", "* a", "```", "~~~",
    "<http://x>",
    "../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\x", "con", ".", "..", "~", "$HOME", "%s%n",
    "\ud800", "\udc80\udcff", "a\udce9.jpg",
    "x" * 5_000, "\u0301" * 300, "\U0001f469\u200d\U0001f680",
    "NaN", "null", "true", "__proto__", "constructor", "0", "", " ", "\u3000", "\u0130",
)  # fmt: skip
"""One of each kind."""


def names(count: int = 1_000, *, lone: bool = True, empty: bool = True) -> tuple[str, ...]:
    """Return so many different names: one of each kind, then joins of them.

    Args:
        count: how many.
        lone: whether surrogates without a partner, which no UTF-8 holds, are among them.
        empty: whether the name of no character is.
    """
    draw = random.Random(0)
    found = dict.fromkeys(SEEDS)
    while len(found) < count + 50:
        parts = draw.sample(SEEDS, draw.randint(2, 4))
        found["".join(part[:200] for part in parts)] = None
    fit = [
        name for name in found
        if (empty or name) and (lone or name == name.encode("utf-8", "ignore").decode())
    ]  # fmt: skip
    while len(fit) < count:
        fit.append(f"{len(fit)}{fit[len(fit) % len(SEEDS)]}")
    return tuple(fit[:count])
