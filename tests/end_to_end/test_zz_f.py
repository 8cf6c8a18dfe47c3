import time
def test_raw(old_server):
    for every in (0, 16, 0, 16):
        terminal = old_server.jupyter.open_terminal()
        terminal.send("stty raw -echo; echo re''ady; head -c 30000000 | tr -d '\\r' | wc -c; sleep 1000\n")
        terminal.read_until("ready")
        t = time.monotonic()
        for n in range(2000):
            terminal.send("x" * 16384)
            if every and n % every == 0:
                terminal.send("\r")
        try:
            terminal.read_until("000\r", 120)
        except Exception as e:
            print(repr(e))
        print("SPEED", old_server.user, "every", every, "%.2f" % (time.monotonic() - t), flush=True)
        terminal.close()
