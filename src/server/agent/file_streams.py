def run_files(number, description, window, made):
    source, umask = description.get("source"), int(description.get("umask", 0o022))
    pipes = pipe(made, 1), pipe(made, 0)
    theirs = pipes[0][0], pipes[1][1], posix.open("/dev/null", posix.O_RDWR)
    made.append(theirs[2])
    stream = Stream(number, start(theirs, lambda: serve_files(source, umask)))
    for fd in theirs:
        posix.close(fd)
    stream.opened()
    stream.sink = Sink(stream, pipes[0][1])
    Source(stream, 1, pipes[1][0], window)


def serve_files(source, umask):
    """In the child: become the image's SFTP server, or run ours."""
    try:
        posix.chdir(home())
    except OSError:
        posix.chdir("/")
    if source is None:
        posix.execve(sftp_server(), ["sftp-server", "-u", "%03o" % umask], surroundings({}, False))
    close_all_but()
    posix.environ.setdefault(b"HOME", home())
    status = 0
    try:
        exec(compile(source, "files", "exec"), {"__name__": "__main__", "umask": umask})
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1 if error.code else 0
    posix._exit(status)
