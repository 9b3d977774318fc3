"""First process of an agent's box: runs the agent, says how it ended, and keeps the box open until told.

    keeper.py SAYS HOLDS COMMAND...

Writes `+` to file descriptor SAYS when it is there and the exit status when the agent is over. Then it waits
for HOLDS to close, so that what the agent left behind can be seen before the box goes. Standard library only:
it runs inside the box.
"""

import os
import signal
import subprocess
import sys


def main() -> None:
    """Run the command in a session of its own."""
    says, holds, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    # Handlers, not SIG_IGN: the agent would inherit an ignored signal.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    os.write(says, b"+")
    try:
        code = subprocess.run(command, start_new_session=True, check=False).returncode
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        code = 127
    os.write(says, str(code).encode())
    os.close(says)
    os.read(holds, 1)


if __name__ == "__main__":
    main()
