"""JSON that every reader takes."""

import json
import math

import pytest

from sevenfold import strict


def test_what_json_has_no_number_for_is_null_however_deep():
    told = {"a": [1.5, math.nan, {"b": (math.inf, -math.inf)}], 3: "NaN", "c": None, "d": True}
    found = json.loads(strict.to_json(told, indent=1), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, {"b": [None, None]}], "3": "NaN", "c": None, "d": True}
    assert "\n" not in strict.to_json(told)
