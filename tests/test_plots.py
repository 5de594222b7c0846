import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from sevenfold import plots
from sevenfold.plots import Line, plain, ticks

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><svg onload=alert(1)>",
    "line\nbreak\r\ttab",
    "\u202eright to left\u2066\u200f",
    "control\x00\x07\x1b[31m\x9b",
    "half a pair \ud800 and \ufffe",
    "&amp; ]]> <!-- ",
    "x" * 10_000,
    "",
    "שלום",
)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.encode("utf-8"))


def tags(root: ET.Element) -> list[str]:
    return [element.tag for element in root.iter()]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text_in_every_figure(name: str) -> None:
    line = Line(name, ((1, 0.5), (2, 0.75)))
    figures = (
        plots.scale(
            0.5,
            0.4,
            0.6,
            key="k",
            title=name,
            text=name,
            baseline=0.2,
            caption=name,
            baseline_caption=name,
        ),
        plots.chart([line], key="k", title=name, text=name, x_label=name, mark=1, mark_label=name),
        plots.matrix([[1, 2], [3, 4]], [name, name], [3, 7], key="k", title=name, text=name),
    )
    for figure in figures:
        root = parsed(figure)
        assert set(tags(root)) <= {
            *("svg", "title", "desc", "text", "rect", "line", "polyline", "circle")
        }
        assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
        assert len(figure) < 20_000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1.0, 7.0])
def test_no_number_breaks_a_figure(value: float) -> None:
    bars = (plots.bar(value, value, value), plots.stack([value, 1], value))
    scale = plots.scale(value, value, value, key="k", title="t", text="t", baseline=value)
    for figure in (*bars, scale):
        root = parsed(figure)
        for element in root.iter("rect"):
            for key in ("x", "width"):
                size = float(element.attrib[key].rstrip("%"))
                assert 0 <= size <= 100, figure
    points = ((value, value), (1.0, 0.5), (2.0, value))
    assert parsed(plots.chart([Line("a", points)], key="k", title="t", text="t", x_label="x"))


def test_a_figure_says_what_it_shows() -> None:
    root = parsed(plots.scale(0.9, 0.8, 0.95, key="v", title="Accuracy", text="90 per cent"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "v-title v-text"
    named = {element.attrib.get("id"): element.text for element in root}
    assert named["v-title"] == "Accuracy"
    assert named["v-text"] == "90 per cent"


def test_the_scale_puts_value_and_interval_where_they_are() -> None:
    root = parsed(plots.scale(0.5, 0.25, 0.75, key="v", title="", text="", baseline=0.1))
    places = {element.attrib["class"]: element.attrib for element in root.iter("rect")}
    assert places["point"]["x"] == "50.00%"
    assert (places["band"]["x"], places["band"]["width"]) == ("25.00%", "50.00%")
    assert places["base"]["x"] == "10.00%"


def test_a_stack_fills_the_width_of_the_largest() -> None:
    root = parsed(plots.stack([3, 1, 0], 8))
    widths = [element.attrib["width"] for element in root.iter("rect")]
    starts = [element.attrib["x"] for element in root.iter("rect")]
    assert widths == ["37.50%", "12.50%", "0.00%"]
    assert starts == ["0.00%", "37.50%", "50.00%"]


def test_a_chart_without_points_is_left_out() -> None:
    nothing = Line("a", ((math.nan, 1.0), (1.0, math.nan)))
    assert plots.chart([nothing], key="k", title="t", text="t", x_label="x") == ""
    negative = Line("a", ((-1.0, 1.0), (0.0, 2.0)))
    assert plots.chart([negative], key="k", title="t", text="t", x_label="x", log_x=True) == ""


@pytest.mark.parametrize("log_x", [False, True])
def test_a_chart_stays_inside_its_frame(log_x: bool) -> None:
    line = Line("a", tuple((10.0**e, e * e - 3.0) for e in range(-5, 2)), dots=((1e-3, 6.0),))
    svg = plots.chart(
        [line], key="k", title="t", text="t", x_label="rate", log_x=log_x, mark=1e-3, mark_label="m"
    )
    root = parsed(svg)
    pairs = [pair.split(",") for pair in root.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert len(pairs) == 7
    assert all(plots.LEFT - 0.1 <= float(x) <= plots.WIDTH - plots.RIGHT + 0.1 for x, _ in pairs)
    assert all(plots.TOP - 0.1 <= float(y) <= plots.HEIGHT - plots.BOTTOM + 0.1 for _, y in pairs)
    xs = [float(x) for x, _ in pairs]
    assert xs == sorted(xs)
    assert len(list(root.iter("circle"))) == 1


def test_a_higher_value_is_drawn_higher() -> None:
    root = parsed(
        plots.chart([Line("a", ((1, 1), (2, 3)))], key="k", title="", text="", x_label="")
    )
    first, last = root.find("polyline").attrib["points"].split()  # type: ignore[union-attr]
    assert float(last.split(",")[1]) < float(first.split(",")[1])


def test_one_point_and_a_flat_line_can_be_drawn() -> None:
    for points in (((1.0, 0.5),), ((1.0, 0.5), (2.0, 0.5))):
        assert parsed(plots.chart([Line("a", points)], key="k", title="", text="", x_label=""))


def test_long_lines_are_thinned_and_keep_their_end() -> None:
    line = Line("a", tuple((float(x), float(x)) for x in range(10_001)))
    root = parsed(plots.chart([line], key="k", title="", text="", x_label=""))
    pairs = root.find("polyline").attrib["points"].split()  # type: ignore[union-attr]
    assert len(pairs) <= plots.LINE_POINTS + 2
    assert float(pairs[-1].split(",")[0]) == pytest.approx(plots.WIDTH - plots.RIGHT)


def test_the_matrix_tells_right_from_wrong_and_none() -> None:
    root = parsed(
        plots.matrix([[8, 2], [0, 5]], ["cat", "dog"], [10, 5], key="m", title="", text="")
    )
    kinds = [element.attrib["class"] for element in root.iter("rect")]
    assert kinds == ["right", "wrong", "empty", "right"]
    strengths = [float(element.attrib["fill-opacity"]) for element in root.iter("rect")]
    assert strengths[1] < strengths[0] < strengths[3]
    words = [element.text for element in root.iter("text")]
    assert [word for word in words if word and word.isdigit()] == ["8", "2", "5"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.13, 0.94), (-5, 3), (1e-9, 2e-9), (0.5, 0.5), (0, 0), (1e6, 3e8)]
)
def test_ticks_cover_the_range_evenly(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert found[0] <= low or math.isclose(found[0], low, abs_tol=1e-12)
    assert found[-1] >= high or math.isclose(found[-1], high, abs_tol=1e-12)
    assert 2 <= len(found) <= 12
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_text_is_one_short_line(name: str) -> None:
    shown = plain(name, 50)
    assert len(shown) <= 50
    assert shown.isprintable()
    shown.encode("utf-8")


def test_plain_text_keeps_both_ends_and_other_scripts() -> None:
    assert plain("a" * 40 + "b" * 40, 21) == "a" * 10 + "…" + "b" * 10
    assert plain("שלום 👩‍🚒 日本") == "שלום 👩‍🚒 日本"
