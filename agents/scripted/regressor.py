"""A script, not an agent that thinks: finds a good config, then submits a launcher that does not start.

It shows that what a run found and what it submitted are two results.
"""

from agents.scripted import hands, known

BROKEN = """#!/bin/bash
echo "one more improvement" >&2
exit 1"""


def main() -> None:
    """Score a config that works, then break the launcher."""
    offer = hands.task()["engines"][0]
    text = hands.launcher(offer["name"], known.config(offer))
    if text is None or hands.tried(text, quick=False) is None:
        hands.tried(offer["default"].rstrip("\n"), quick=False)
    hands.stop()
    hands.write(BROKEN)


if __name__ == "__main__":
    main()
