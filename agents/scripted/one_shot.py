"""A script, not an agent that thinks: submits one well-known config that is not the default.

That is the median behaviour in the published runs: one distinct config that is not the default.
"""

from agents.scripted import hands, known


def main() -> None:
    """Try the known config once; keep the engine's own defaults if it does not work."""
    offer = hands.task()["engines"][0]
    text = hands.launcher(offer["name"], known.config(offer))
    if text is None or hands.tried(text, quick=False) is None:
        hands.write(offer["default"].rstrip("\n"))
    hands.stop()


if __name__ == "__main__":
    main()
