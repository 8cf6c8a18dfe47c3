import pytest
from lib import terminalchecks
from test_commands import place, agents  # noqa

def many(place, check):
    bad = 0
    for n in range(20):
        try:
            check(place)
        except Exception as e:
            bad += 1
            print(n, str(e).splitlines()[0], [l for l in str(e).splitlines() if "searcher" in l or "0: b" in l or "before" in l])
    print("BAD", bad)
    assert 0

def test_tw_ours(place):
    many(place, terminalchecks.check_window_change)

def test_tw_ours_plain(place):
    many(place, terminalchecks.check_window_change.__wrapped__)
