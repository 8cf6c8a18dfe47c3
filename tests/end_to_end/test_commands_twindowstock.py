from test_commands_twindow import many
from lib import terminalchecks
from test_commands_stock import place, stock_bastion, shared_bastion  # noqa

def test_tw_stock(place):
    many(place, terminalchecks.check_window_change)

def test_tw_stock_plain(place):
    many(place, terminalchecks.check_window_change.__wrapped__)
