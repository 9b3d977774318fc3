"""The page: its charts by value, and the whole of it in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from studies.compare import compare, load
from studies.estimates import Estimate
from studies.report import charts
from studies.report.page import render, write_page
from studies.verdict import sentence, sureness, verdicts
from tests.studies.chromium import Chromium
from tests.studies.conftest import RunBuilder

PAIRS = ((21, 1337), (248, 428), (999, 777))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Search wins A and C, an agent wins B; another agent breaks what it found; and a simulation."""
    place = tmp_path_factory.mktemp("runs")
    gains = {"tpe": {"A": 4.0, "B": 8.0, "C": 40.0}, "agent:greedy": {"A": 3.0, "B": 9.0, "C": 30.0}}
    for method, by_letter in gains.items():
        for letter, gain in by_letter.items():
            for number, seeds in enumerate(PAIRS):
                RunBuilder(
                    place / f"{method.replace(':', '-')}-{letter}-{number}",
                    method=method,
                    kind="agent" if "agent" in method else "search",
                    scenario=letter,
                    seeds=seeds,
                    scores=(1.0, None, gain, gain * 1.1),
                    submitted=gain + 0.1 * number,
                ).write()
    broken = RunBuilder(place / "regressor", method="agent:regressor", kind="agent", scores=(1.0, 7.0))
    broken.submitted = "unreachable <b>"
    broken.write()
    RunBuilder(place / "sim", engines=("simulated",), baseline=None).write()
    return place


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    """The page of those runs."""
    path = runs.parent / "page.html"
    write_page(path, compare(load([runs])), published=True)
    return path


def test_bars_are_drawn_to_scale() -> None:
    svg = charts.bars([charts.Bar("a", "red", 4.0, 0.5, 5.0), charts.Bar("b", "blue", 2.0)], ceiling=4.0)
    widths = [float(value) for value in re.findall(r'<rect [^>]*width="([\d.]+)%"', svg)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.02)
    assert widths[0] == pytest.approx(100 * 4.0 / (1.04 * 5.0), abs=0.01)
    assert "4.00x ± 0.50" in svg and "found 5.00x" in svg
    assert svg.count("rule-ceiling") == 2 and svg.count("rule-base") == 2


def test_lines_are_steps_from_point_to_point() -> None:
    line = charts.Line("tpe", "red", [(100.0, 1.0), (200.0, 3.0)], 400.0)
    plot = charts.lines([line], limit=500.0, label="x")
    path = re.search(r'<path d="([^"]+)"', plot.svg)
    assert path is not None
    right, top = 500 * 1.02, 3 * 1.06
    start = f"M{1000 * 100 / right:.1f} {1000 - 1000 * 1 / top:.1f}"
    step = f"H{1000 * 200 / right:.1f}V{1000 - 1000 * 3 / top:.1f}"
    assert path[1] == f"{start}{step}H{1000 * 400 / right:.1f}"
    assert [tick.text for tick in plot.x] == ["0 min", "2 min", "4 min", "6 min", "8 min"]


@pytest.mark.parametrize(("top", "step"), [(1.0, 0.25), (9.0, 2.5), (90.0, 20.0), (0.004, 0.001)])
def test_ticks_are_round(top: float, step: float) -> None:
    values = charts.ticks(top, 4 if step != 20.0 else 5)
    assert values[1] == pytest.approx(step)
    assert values[-1] <= top * 1.000001


def test_labels_are_escaped(runs: Path) -> None:
    html = render(compare(load([runs])))
    assert "unreachable <b>" not in html
    assert "unreachable &lt;b&gt;" in html
    assert "<x&y>" not in charts.bars([charts.Bar("<x&y>", "red", 1.0)], ceiling=None)


def test_who_won_by_how_much_and_how_sure(runs: Path) -> None:
    real = compare(load([runs]))[0]
    first = verdicts(real)[0]
    assert first.winner.method == "tpe (vllm)"
    assert first.runner_up is not None and first.runner_up.method == "agent:greedy (vllm)"
    assert first.lead == pytest.approx(4.1 / 3.1)
    words = sentence(first, real.reference)
    assert words.startswith(
        "A: tpe (vllm) won with 4.10x ± 0.06 (3 seed pairs) over the torch baseline, 1.32x the"
    )
    assert "clear" in words and "GPU time" in words


def test_sureness() -> None:
    three = Estimate(3.0, 0.3, 3)
    assert sureness(three, Estimate(1.0, 0.4, 3)) == (
        "clear: the gap is 4.0 standard errors, and 3 seed pairs ask for 3.2"
    )
    assert sureness(three, Estimate(1.5, 0.4, 3)).startswith("within the error")
    assert sureness(three, Estimate(2.9, 0.4, 3)).startswith("within the error")
    assert sureness(Estimate(3.0, None, 1), three.__class__(2.0, None, 1)).startswith(
        "unknown, as 1 seed pair"
    )
    assert sureness(three, three) == "a tie"
    assert sureness(Estimate(3.0, 0.01, 3), Estimate(2.95, 0.01, 3), 1.02) == (
        "no difference: 1.7% apart, this machine's noise floor is 2.0%"
    )
    assert sureness(Estimate(3.0, 0.01, 3), Estimate(2.9, 0.01, 3), 1.02).startswith("clear")


class _Links(HTMLParser):
    """Everything in a page that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "embed"):
            self.loads.append(tag)
        self.loads += [f"{tag}.{name}" for name, _ in attrs if name in ("src", "href", "onclick")]


def test_the_page_stands_alone(page: Path) -> None:
    parser = _Links()
    html = page.read_text()
    parser.feed(html)
    assert parser.loads == []
    assert "url(" not in html and "@import" not in html


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "profile") as browser:
        yield browser


SHOWN = "[...document.querySelectorAll('.board')].filter(board => board.offsetParent !== null)"
VISIBLE = f"{SHOWN}.map(board => board.className)"
FIRST = f"{SHOWN}[0].querySelector('tbody td:nth-child(2)').innerText.trim()"
MARKS = "svg.bars rect, svg.plane path:not(.dots)"
DRAWN = f"[...document.querySelectorAll('{MARKS}')].map(mark => mark.getBoundingClientRect())"


@pytest.mark.browser
def test_in_a_real_browser(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    assert chromium.requested() == [page.resolve().as_uri()]
    assert chromium.complaints() == []
    assert chromium.ask("document.scripts.length") == 0
    assert chromium.ask(VISIBLE) == ["board board-1-all scroll", "board board-2-all scroll"]
    cards = chromium.ask("[...document.querySelectorAll('.card')].map(c => c.innerText)")
    assert [card.split("\n")[1].strip() for card in cards[:3]] == [
        "tpe (vllm)",
        "agent:greedy (vllm)",
        "tpe (vllm)",
    ]
    assert "How sure: clear" in cards[0] and "At what cost: 40s of GPU time" in cards[0]
    chromium.ask("document.querySelector('label[for=focus-1-B]').click()")
    assert chromium.ask(VISIBLE)[0] == "board board-1-B scroll"
    assert chromium.ask(FIRST) == "agent:greedy (vllm)"
    assert "no measurement of any engine" in chromium.ask("document.querySelectorAll('h2')[1].innerText")


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_runs_over_the_edge(chromium: Chromium, page: Path, width: int) -> None:
    chromium.open(page, width=width)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    assert chromium.ask(f"{DRAWN}.every(box => box.width > 0)") is True
    plots = "[...document.querySelectorAll('.plot')].map(plot => plot.getBoundingClientRect())"
    assert chromium.ask(f"{plots}.length > 0 && {plots}.every(box => box.height > 100)") is True


@pytest.mark.browser
def test_light_and_dark(chromium: Chromium, page: Path) -> None:
    ink = "(s => s.color + s.backgroundColor)(getComputedStyle(document.body))"
    chromium.open(page)
    light = chromium.ask(ink)
    chromium.open(page, dark=True)
    assert chromium.ask(ink) != light
