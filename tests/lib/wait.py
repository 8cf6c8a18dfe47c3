"""Waiting for conditions with deadlines; nothing in these tests sleeps and hopes."""

import time


class Timeout(AssertionError):
    """A condition did not come true in time."""


def wait_for(condition, what, timeout=10.0, interval=0.02):
    """Call `condition` until it returns something true, and return that.

    `what` names the condition in the failure; it may be a function, called only then. `timeout` and
    `interval` are in seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise Timeout(f"not within {timeout:g} s: {text}")
        time.sleep(interval)
