"""Waiting for what a thread, a program or a server still has to do."""

import time

# Seconds after which a test is told that it waits in vain.  It costs nothing where all is well, so it is long: an
# emulated or overloaded machine is twenty times slower than this one.
PATIENCE = 60.0


def wait_until(condition, seconds=PATIENCE, what="what was waited for"):
    """Return what condition() returns as soon as that is true; fails after `seconds`."""
    deadline, pause = time.monotonic() + seconds, 0.0005
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.02)
