class Connection(Stream):
    """A connection to a host and port, or to a unix socket."""

    #: The socket to the child that connects; then the connection.
    socket = None

    def over(self):
        return not self.pid and not self.sources and self.sink.fd < 0

    def connecting(self, answer, window):
        self.socket, self.window = answer, window
        answer.setblocking(False)
        watch(answer.fileno(), select.POLLIN, self.connected)

    def connected(self, events):
        """Take the connection from the child, or the reason why there is none."""
        import _socket
        try:
            why, passed = self.socket.recvmsg(1000, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)[:2]
        except BlockingIOError:
            return
        self.forget()
        if not passed:
            self.release()
            return refuse(self.number, str(why, "utf-8", "replace") or "the attempt to connect failed")
        fd = int.from_bytes(passed[0][2][:4], sys.byteorder)
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        made = []
        try:
            self.socket.setblocking(False)
            for _ in range(2):
                made.append(posix.dup(fd))
        except OSError as error:
            for fd in made:
                posix.close(fd)
            self.release()
            return refuse(self.number, reason(error))
        self.opened()
        self.sink = Sink(self, made[0])
        Source(self, 1, made[1], self.window)

    def forget(self):
        """Drop the child: it is done, or no longer wanted."""
        unwatch(self.socket.fileno())
        self.socket.close()
        self.socket = None
        if self.pid:
            send(self.pid, _signal.SIGKILL)
            children[self.pid] = None
            self.pid = 0

    def reaped(self, status):
        """The child has ended. What it has sent, if anything, can be read."""
        # Its pid may soon be another's.
        self.pid = 0
        if self.socket and not self.sink:
            self.connected(0)

    def shut(self, how):
        try:
            self.socket.shutdown(how)
        except OSError:
            pass

    def half_close(self, sink):
        sink.close()
        self.shut(1)

    def stop(self, source):
        self.shut(0)
        super().stop(source)

    def release(self):
        if self.socket and not self.sink:
            self.forget()
        super().release()
        if self.socket:
            self.socket.close()


def run_connection(number, description, window, made):
    import _socket
    host, port, path = (description.get(name) for name in ("host", "port", "path"))
    if path is None:
        host, port = encoded(host), int(port)
    else:
        path = encoded(path)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    # A child connects: resolving a name may take long, and nothing else may wait.
    stream = Connection(number, start((), lambda: connect(theirs, host, port, path)))
    theirs.close()
    stream.connecting(ours, window)


def connect(answer, host, port, path):
    """In the child: connect, and pass the connection on."""
    import _socket
    close_all_but(answer.fileno())
    why = "no address"
    try:
        if path is None:
            addresses = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
        else:
            addresses = [(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, "", path)]
    except OSError as error:
        addresses, why = [], error.strerror or str(error)
    for family, kind, protocol, _, address in addresses:
        try:
            one = _socket.socket(family, kind, protocol)
            one.settimeout(60)
            one.connect(address)
            if path is None:
                one.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            answer.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, native(one.fileno(), 4))])
            posix._exit(0)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
    answer.send(why.encode("utf-8", "replace")[:500])
    posix._exit(0)


OPENERS = {"process": run_in_terminal, "files": run_files, "connection": run_connection}
