"""A script, not an agent that thinks: submits the first engine's own defaults, having scored them once."""

from agents.scripted import hands


def main() -> None:
    """Write, serve, score."""
    offer = hands.task()["engines"][0]
    hands.write(offer["default"].rstrip("\n"))
    if hands.serve():
        hands.score(quick=False)
    hands.stop()


if __name__ == "__main__":
    main()
