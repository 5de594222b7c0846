"""Tables by any encoding and separator, and the paths in them."""

import io

import pytest

from sevenfold import cells
from sevenfold.errors import DataError


def read(text):
    header, rows = cells.table(io.StringIO(text, newline=""), "t.csv")
    return header, list(rows)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_is_most_frequent_in_the_first_line_parts_the_cells(separator):
    lines = ("path| label", '"a,b;c\td.png"|x', "|", "", "e.png|y")
    text = "\r\n".join(lines).replace("|", separator)
    assert read(text) == (["path", "label"], [(2, ["a,b;c\td.png", "x"]), (5, ["e.png", "y"])])


def test_a_table_without_rows_or_without_anything_is_empty():
    assert read("path") == (["path"], [])
    assert read("") == ([], [])


def test_what_is_no_csv_is_refused_with_its_line():
    with pytest.raises(DataError, match=r"t\.csv, line 3: not a CSV"):
        read('path,label\na.png,x\n"b.png,x\n')


def test_a_path_may_be_padded_or_written_on_windows(tmp_path):
    assert cells.path_of(" a\\b.png", tmp_path) == "a/b.png"
    assert cells.path_of("a/b.png\t", tmp_path) == "a/b.png"
