def native(number, size):
    return number.to_bytes(size, sys.byteorder)


def resize(fd, rows, columns):
    import termios
    try:
        ioctl(fd, termios.TIOCSWINSZ, native(rows, 2) + native(columns, 2) + bytes(4))
    except OSError:
        pass


# RFC 4254, section 8; the numbers that Python has no name for are Linux's.
CHARACTERS = {1: "VINTR", 2: "VQUIT", 3: "VERASE", 4: "VKILL", 5: "VEOF", 6: "VEOL", 7: "VEOL2", 8: "VSTART",
              9: "VSTOP", 10: "VSUSP", 12: "VREPRINT", 13: "VWERASE", 14: "VLNEXT", 16: "VSWTC", 18: "VDISCARD"}
FLAGS = {30: "IGNPAR", 31: "PARMRK", 32: "INPCK", 33: "ISTRIP", 34: "INLCR", 35: "IGNCR", 36: "ICRNL", 37: "IUCLC",
         38: "IXON", 39: "IXANY", 40: "IXOFF", 41: "IMAXBEL", 42: "IUTF8", 50: "ISIG", 51: "ICANON", 52: "XCASE",
         53: "ECHO", 54: "ECHOE", 55: "ECHOK", 56: "ECHONL", 57: "NOFLSH", 58: "TOSTOP", 59: "IEXTEN", 60: "ECHOCTL",
         61: "ECHOKE", 62: "PENDIN", 70: "OPOST", 71: "OLCUC", 72: "ONLCR", 73: "OCRNL", 74: "ONOCR", 75: "ONLRET",
         90: "CS7", 91: "CS8", 92: "PARENB", 93: "PARODD"}
UNNAMED = {"IUCLC": 0o1000, "IUTF8": 0o40000, "OLCUC": 2, "XCASE": 4, "VSWTC": 7}


def set_modes(fd, modes):
    """Set a terminal's modes to those of the client's."""
    import termios
    attributes = termios.tcgetattr(fd)
    attributes[0] |= UNNAMED["IUTF8"]
    for opcode, value in modes:
        name = CHARACTERS.get(opcode) or FLAGS.get(opcode)
        if opcode in CHARACTERS:
            attributes[6][getattr(termios, name, UNNAMED.get(name))] = bytes((0 if value == 255 else value & 255,))
        elif opcode in FLAGS:
            field = 0 if opcode < 50 else 3 if opcode < 70 else 1 if opcode < 90 else 2
            flag = getattr(termios, name, UNNAMED.get(name, 0))
            if opcode not in (90, 91):
                attributes[field] = attributes[field] | flag if value else attributes[field] & ~flag
            elif value:
                attributes[2] = attributes[2] & ~termios.CSIZE | flag
        elif opcode in (128, 129):
            attributes[opcode - 124] = getattr(termios, "B%d" % value, attributes[opcode - 124])
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def described(name, environment):
    """True if a terminal type has a description here: else curses programs refuse to start."""
    if not name or b"/" in name or b"\0" in name:
        return False
    places = [environment.get(b"HOME", b"") + b"/.terminfo", environment.get(b"TERMINFO", b""),
              *environment.get(b"TERMINFO_DIRS", b"").split(b":"), b"/etc/terminfo", b"/lib/terminfo",
              b"/usr/share/terminfo", encoded(sys.prefix) + b"/share/terminfo"]
    for place in places:
        for letter in (name[:1], b"%x" % name[0]):
            if place and posix.access(b"/".join((place, letter, name)), posix.R_OK):
                return True
    return False


def terminal_type(name, environment):
    """Return the client's type, or the nearest that has a description here."""
    types = [name]
    if name.startswith((b"screen", b"tmux")):
        types += [b"screen-256color", b"screen", b"xterm-256color"]
    elif name not in (b"dumb", b"unknown", b"linux") and not (name[:2] == b"vt" and name[2:3].isdigit()):
        types += [b"xterm-256color", b"xterm"]
    for one in types:
        if described(one, environment):
            return one
    return types[1:2][0] if types[1:] else name


def type_ahead(master, slave, typed):
    """Type what came before the program, without an echo: the client's terminal has echoed it."""
    import termios
    if not typed:
        return
    before = termios.tcgetattr(slave)
    # That terminal has also erased, translated and so on: only ends of lines and files still count.
    characters = list(before[6])
    for name in ("VERASE", "VKILL", "VEOL", "VEOL2"):
        characters[getattr(termios, name)] = b"\0"
    canonical = before[3] & termios.ICANON
    termios.tcsetattr(slave, termios.TCSANOW, [0] + before[1:3] + [canonical] + before[4:6] + [characters])
    try:
        posix.write(master, typed)
        # The kernel takes it in its own time; polling helps. It is done when it counts everything,
        # or in canonical mode all whole lines without EOF characters (n_tty.c, inq_canon).
        expected = typed
        if canonical:
            end = before[6][termios.VEOF]
            expected = typed[:max(typed.rfind(b"\n"), typed.rfind(end)) + 1].replace(end, b"")
        look = select.poll()
        look.register(slave, select.POLLIN)
        for _ in range(50):
            look.poll(0)
            if int.from_bytes(ioctl(slave, termios.FIONREAD, bytes(4)), sys.byteorder) >= len(expected):
                break
            select.poll().poll(1)
    finally:
        termios.tcsetattr(slave, termios.TCSANOW, before)


def run_in_terminal(number, description, window, made):
    import termios
    tty = description["tty"]
    command, wanted = command_of(description), environment_of(description)
    master, slave = posix.openpty()
    made += [master, slave]
    set_modes(slave, tty["modes"])
    resize(master, tty["rows"], tty["cols"])
    wanted[b"SSH_TTY"] = encoded(posix.ttyname(slave))
    posix.set_blocking(master, False)
    type_ahead(master, slave, a2b_base64(tty.get("typed", "")))
    # One descriptor for each purpose, as in sshd: they are watched and closed apart.
    for _ in range(2):
        made.append(posix.dup(master))

    def run():
        ioctl(0, termios.TIOCSCTTY, 0)
        execute(command, surroundings(wanted, True))
    stream = Stream(number, start((slave,) * 3, run))
    posix.close(slave)
    stream.tty = master
    stream.opened()
    stream.sink = Sink(stream, made[2])
    Source(stream, 1, made[3], window)
