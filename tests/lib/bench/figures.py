"""How the figures of `make bench` are written."""

import statistics


def spread(values, scale=1.0, digits=2):
    """min / median / max, each times `scale`."""
    return " / ".join(f"{scale * v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))


def milliseconds(values):
    """min / median / max of seconds, in ms."""
    return spread(values, 1000, 1)


def percentile(values, share):
    """The value that `share` of the values don't exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def verdict(met):
    """A goal's outcome, hard to overlook when it is missed."""
    return "met" if met else "MISSED"
