import io
import threading

import pytest

from sevenfold.progress import Lines, duration, silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_silent_says_nothing(capsys):
    silent("training", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_one_line_in_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for second in range(61):
        clock.now = float(second)
        lines("training", second, 60)
    written = stream.getvalue().splitlines()
    assert written[0] == "training: 10 of 60, 50 s left"
    assert written[-1] == "training: 60 of 60 in 1 min 00 s"
    assert len(written) == 6


def test_short_stages_without_a_terminal_say_nothing():
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for stage in "abc":
        for done in range(3):
            clock.now += 1.0
            lines(stage, done, 2)
    assert stream.getvalue() == ""


def test_many_short_stages_without_a_terminal_share_the_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for number in range(100):
        clock.now += 1.0
        lines(f"stage {number}", 1, 2)
    assert 8 <= len(stream.getvalue().splitlines()) <= 10


def test_a_terminal_shows_a_bar_with_the_time_left():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    lines("reading", 0, 4)
    clock.now = 3.0
    lines("reading", 1, 4)
    assert stream.getvalue().endswith("\r[######..................] reading: 1 of 4, 9 s left")


def test_a_terminal_is_not_drawn_on_more_than_ten_times_a_second():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    for number in range(1000):
        clock.now = number / 1000
        lines("reading", number, 2000)
    assert 9 <= stream.getvalue().count("\r") <= 11


def test_a_shorter_line_wipes_out_a_longer_one():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    lines("reading", 0, 1000)
    clock.now = 100.0
    lines("reading", 1, 1000)
    clock.now = 101.0
    lines("reading", 999, 1000)
    _, _, longer, shorter = stream.getvalue().split("\r")
    assert len(shorter) == len(longer)


def test_a_finished_stage_ends_its_line_once():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    lines("reading", 0, 2)
    clock.now = 2.0
    lines("reading", 2, 2)
    lines("reading", 2, 2)
    assert stream.getvalue().count("\n") == 1
    assert "reading: 2 of 2 in 2 s\n" in stream.getvalue()


def test_a_stage_can_be_repeated():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    for _ in range(2):
        lines("epoch", 1, 2)
        clock.now += 1.0
        lines("epoch", 2, 2)
    assert stream.getvalue().count("epoch: 2 of 2 in 1 s\n") == 2


def test_an_unfinished_stage_leaves_its_line_standing():
    stream = Terminal()
    lines = Lines(stream, Clock())
    lines("first", 1, 2)
    lines("second", 1, 2)
    assert stream.getvalue().count("\n") == 1


def test_a_resumed_stage_is_timed_from_where_it_was_taken_up():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)
    lines("training", 80, 100)
    clock.now = 10.0
    lines("training", 90, 100)
    assert stream.getvalue().endswith("90 of 100, 10 s left")


def test_an_unknown_total_is_counted():
    stream, clock = Terminal(), Clock()
    Lines(stream, clock)("listing", 1234, 0)
    assert stream.getvalue() == "\rlisting: 1,234"


@pytest.mark.parametrize("value", ["1", ""])
def test_there_is_never_a_colour(value, monkeypatch):
    monkeypatch.setenv("NO_COLOR", value)
    stream = Terminal()
    Lines(stream, Clock())("reading", 1, 2)
    assert "\x1b" not in stream.getvalue()


def test_it_may_be_called_from_any_thread():
    stream, clock = Terminal(), Clock()
    lines = Lines(stream, clock)

    def work(start):
        for done in range(start, 400, 4):
            lines("reading", done, 1000)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stream.getvalue()) <= set("\r\n[]#. readingof:,0123456789slt")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds, text):
    assert duration(seconds) == text
