"""A script, not an agent that thinks: changes one flag at a time and rolls back what does not help.

Works on the first engine of the task, in the order of its space, on quick scores; ends with a full score of
the best config while the budget still allows one.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agents.scripted import hands

MARGIN = 1.3
"""The last full score is given this much more time than was seen to be needed."""

WORTH = 1.01
"""A change is kept when the score grows by more than this factor: less is noise."""


@dataclass
class Best:
    """The best config so far, its launcher and its quick score."""

    text: str
    config: hands.Config = field(default_factory=dict)
    score: float = 0.0


def main() -> None:
    """Climb, then put the best launcher in place and score it in full."""
    signal.signal(signal.SIGTERM, _over)
    task = hands.task()
    offer = task["engines"][0]
    best = Best(offer["default"].rstrip("\n"))
    try:
        climb(task, offer, best)
        hands.write(best.text)
        if hands.serve():
            hands.score(quick=False)
    except hands.Over as over:
        hands.say(str(over))
    finally:
        hands.write(best.text)


def climb(task: dict[str, Any], offer: dict[str, Any], best: Best) -> None:
    """Improve `best` until a full score is all that there is time for."""
    began = time.monotonic()
    seconds = try_change({}, offer, best)
    longest = time.monotonic() - began
    full = longest + seconds / task["quick"]["requests"]
    for change in changes(offer, best):
        if hands.left() < (longest + full) * MARGIN * task["devices"]:
            hands.say("the rest is for the full score")
            return
        began = time.monotonic()
        try_change(change, offer, best)
        longest = max(longest, time.monotonic() - began)


def try_change(change: hands.Config, offer: dict[str, Any], best: Best) -> float:
    """Measure one change and keep it if it helps. Returns the seconds of the measurement."""
    config = {**best.config, **change}
    text = hands.launcher(offer["name"], config)
    answer = hands.tried(text, quick=True) if text else None
    if text is None or answer is None or answer["score"] <= best.score * WORTH:
        hands.say(f"roll {change} back")
        return answer["seconds"] if answer else 0.0
    hands.say(f"keep {change}: {answer['score']:.4g}")
    best.text, best.config, best.score = text, config, answer["score"]
    return float(answer["seconds"])


def changes(offer: dict[str, Any], best: Best) -> Iterator[hands.Config]:
    """Every other choice of every flag that takes part, given what was kept so far."""
    defaults = {flag["name"]: flag["default"] for flag in offer["space"]}
    for flag in offer["space"]:
        for value in flag["choices"]:
            now = {**defaults, **best.config}
            active = all(now[name] in values for name, values in flag["when"].items())
            if active and value != now[flag["name"]]:
                yield {flag["name"]: value}


def _over(number: int, frame: object) -> NoReturn:
    raise hands.Over("told to end")


if __name__ == "__main__":
    main()
