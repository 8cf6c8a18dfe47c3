"""The conversation as a stream of bytes: its pieces, its end, nonsense in it, and what it may cost."""

import os
import random
import resource
import struct
import subprocess

import pytest

from raw import (
    CLOSE,
    CREATE,
    EOF,
    EXTENDED,
    FAILURE,
    FSTAT,
    INIT,
    MKDIR,
    OK,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    REALPATH,
    RENAME,
    SETSTAT,
    STAT,
    SYMLINK,
    U64,
    WRITE,
    Attributes,
    Data,
    Handle,
    Names,
    R,
    Raw,
    W,
    packet,
)
from servers import FILES

NOBODY = 65534


def test_starts_in_any_directory_when_home_is_missing(start, python, tmp_path):
    one = start([python, FILES], tmp_path, {"HOME": str(tmp_path / "missing")})
    one.init()
    assert one.ask(REALPATH, b".").entries[0].name == os.fsencode(tmp_path)


@pytest.mark.parametrize("given", [None, 0o077, 0o027])
def test_runs_as_the_agent_runs_it(start, python, tmp_path, given):
    """Its source, with or without an umask."""
    names = {"__name__": "__main__"} if given is None else {"umask": given}
    code = f"exec(compile(open({str(FILES)!r}).read(), 'files.py', 'exec'), {names!r})"
    one = start([python, "-I", "-c", code], tmp_path, preexec_fn=lambda: os.umask(0o002))
    one.init()
    assert isinstance(one.ask(OPEN, b"f", W | CREATE, Attributes()), Handle)
    assert one.ask(STAT, b"f").mode == 0o100666 & ~(0o002 if given is None else given)
    assert one.end() == (0, b"")


def test_end_of_input_is_the_end(start, python):
    for rest in b"", packet(STAT, 1, b".")[:-1], b"\0\0":
        one = start([python, FILES])
        one.init()
        one.send(rest)
        assert one.end() == (0, b"")


def test_requests_before_the_end_are_answered(ours):
    number = ours.post(STAT, b".")
    ours.process.stdin.close()
    assert isinstance(ours.answer(number), Attributes)
    assert ours.packet() is None and ours.wait() == (0, b"")


def test_client_that_is_gone(ours):
    ours.process.stdout.close()
    ours.post(STAT, b".")
    assert ours.wait() == (0, b"")


def test_bytes_one_by_one(ours):
    for byte in packet(STAT, 7, b".") + packet(REALPATH, 8, b"."):
        ours.send(bytes([byte]))
    assert isinstance(ours.answer(7), Attributes)
    assert isinstance(ours.answer(8), Names)


def test_many_requests_at_once(ours, tmp_path):
    """Pieces that end anywhere; the answers in their order."""
    content = bytes(range(256)) * 400
    (tmp_path / "f").write_bytes(content)
    handle = ours.ask(OPEN, b"f", R | W, Attributes())
    rng = random.Random(1)
    stream, expected = bytearray(), []
    for number in range(1, 5000):
        at, count = rng.randrange(len(content) - 1000), rng.choice((1, 10, 1000))
        if number % 50 == 0:
            stream += packet(WRITE, number, handle, U64(200000), b"x" * rng.choice((0, 1, 30000, 261000)))
            expected.append(None)
        else:
            stream += packet(READ, number, handle, U64(at), count)
            expected.append(content[at : at + count])
    writer = os.fork()
    if writer == 0:
        try:
            ours.send(stream)
        finally:
            os._exit(0)
    for number, one in enumerate(expected, 1):
        answer = ours.answer(number)
        if one is None:
            assert answer.code == OK
        else:
            assert answer.bytes == one
    os.waitpid(writer, 0)


@pytest.mark.parametrize(
    "nonsense",
    [
        struct.pack(">I", 0),
        struct.pack(">I", 262145),
        b"\xff" * 4,
        struct.pack(">I", 2**31) + b"x" * 100,
        packet(STAT)[:4] + b"\x11",  # no request number
        struct.pack(">IB", 1, STAT),
        struct.pack(">IBI", 5, STAT, 1),
        packet(STAT, 1, Raw(struct.pack(">I", 5) + b"four")),
        packet(STAT, 1, Raw(b"\xff\xff\xff\xffx")),
        packet(STAT, 1, b"a\0b"),
        packet(STAT, 1, b"a\0\0"),
        packet(OPEN, 1, b"f", R),
        packet(OPEN, 1, b"f", R, Raw(struct.pack(">I", 1))),
        packet(OPEN, 1, b"f", R, Raw(struct.pack(">II", 8, 1))),
        packet(SETSTAT, 1, b"f", Raw(struct.pack(">II", 0x80000000, 0xFFFFFFFF))),
        packet(READ, 1, Raw(struct.pack(">II", 4, 0))),
        packet(WRITE, 1, Raw(struct.pack(">II", 4, 0)), U64(0), Raw(b"\0\0\1\0abc")),
        packet(EXTENDED, 1),
        packet(EXTENDED, 1, Raw(b"\0\0\0\x20copy-data")),
        packet(EXTENDED, 1, b"copy-data", b"1234"),
        packet(EXTENDED, 1, b"users-groups-by-id@openssh.com", b"12345", b""),
        packet(RENAME, 1, b"a"),
        packet(SYMLINK, 1, b"a"),
        packet(INIT),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\nWelcome!\n",
    ],
    ids=str,
)
def test_nonsense_is_the_end(start, python, tmp_path, nonsense):
    """With a line about it; what was asked before is answered."""
    one = start([python, FILES])
    one.init()
    one.send(packet(STAT, 5, b".") + nonsense)
    assert isinstance(one.answer(5), Attributes)
    one.process.stdin.close()
    assert one.packet() is None
    status, said = one.wait()
    assert status == 255, said
    assert said.startswith(b"sftp server: ") and said.count(b"\n") == 1 and len(said) < 300, said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [packet(STAT, 1, b"."), packet(EXTENDED, 1, b"limits@openssh.com")])
def test_first_comes_the_version(start, python, first):
    one = start([python, FILES])
    one.send(first)
    assert one.packet() is None
    status, said = one.wait()
    assert status == 255 and said.count(b"\n") == 1


def test_large_numbers_cost_nothing(ours, tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    handle = ours.ask(OPEN, b"large", R | W, Attributes())
    before = ours.peak_memory()
    for _ in range(50):
        answer = ours.ask(READ, handle, U64(12345), 0xFFFFFFFF)
        assert isinstance(answer, Data) and len(answer.bytes) == 261120
    # An announced packet of the largest size, and then nothing.
    ours.send(struct.pack(">I", 262144) + b"\x06" + bytes(1000))
    assert ours.peak_memory() - before < 4096
    assert ours.end() == (0, b"")


def test_answers_that_nobody_reads_cost_nothing(ours, tmp_path):
    (tmp_path / "f").write_bytes(bytes(261120))
    handle = ours.ask(OPEN, b"f", R, Attributes())
    before = ours.peak_memory()
    numbers = [ours.post(READ, handle, U64(0), 261120) for _ in range(1000)]
    for number in numbers:
        assert len(ours.answer(number).bytes) == 261120
    assert ours.peak_memory() - before < 8192


def test_handles_are_as_many_as_the_limit_allows(start, python, tmp_path):
    limit = 64
    one = start(
        [python, FILES], tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    )
    one.init()
    most = struct.unpack_from(">Q", one.ask(EXTENDED, b"limits@openssh.com").bytes, 24)[0]
    assert most == limit - 5
    for kind, fields in (OPEN, (R | W | CREATE, Attributes())), (OPENDIR, ()):
        handles = []
        while isinstance(answer := one.ask(kind, b"." if kind == OPENDIR else b"f", *fields), Handle):
            handles.append(answer)
        assert answer.code == FAILURE
        assert most - 2 <= len(handles) <= most
        assert len(set(handles)) == len(handles)
        # All others work.
        assert isinstance(one.ask(STAT, b"."), Attributes)
        for handle in handles:
            assert one.ask(CLOSE, handle).code == OK
    assert len(os.listdir(f"/proc/{one.process.pid}/fd")) < 10


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A directory of 100 000 entries."""
    directory = tmp_path_factory.mktemp("many")
    fd = os.open(directory, os.O_RDONLY)
    for number in range(100000):
        if number % 1000 == 0:
            os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        else:  # one more name is cheaper than a file
            os.link(str(number // 1000 * 1000), str(number), src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


def test_directory_of_many_entries(ours, many):
    handle = ours.ask(OPENDIR, os.fsencode(many))
    before = ours.peak_memory()
    seen = set()
    while isinstance(answer := ours.ask(READDIR, handle), Names):
        assert 1 <= len(answer.entries) <= 100
        seen.update(entry.name for entry in answer.entries)
    assert answer.code == EOF and len(seen) == 100000 + 2
    assert ours.peak_memory() - before < 2048


def test_interrupted_directory(ours, tmp_path):
    """A handle that is closed before the end of its directory."""
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"")
    for _ in range(3):
        handle = ours.ask(OPENDIR, b".")
        assert len(ours.ask(READDIR, handle).entries) == 100
        assert ours.ask(CLOSE, handle).code == OK
    assert ours.end() == (0, b"")


def requests(rng, name):
    """A random request that could make sense."""
    kind = rng.choice((*range(3, 21), EXTENDED))
    handle = struct.pack(">I", rng.randrange(4))
    attributes = Attributes(size=rng.choice((None, 5)), mode=rng.choice((None, 0o755)))
    fields = {
        OPEN: (name, rng.randrange(64), attributes),
        CLOSE: (handle,),
        READ: (handle, U64(rng.randrange(9)), 50),
        WRITE: (handle, U64(rng.randrange(9)), b"data"),
        FSTAT: (handle,),
        SETSTAT: (name, attributes),
        READDIR: (handle,),
        MKDIR: (name, attributes),
        RENAME: (name, b"other"),
        SYMLINK: (name, b"link"),
        EXTENDED: (
            rng.choice((b"copy-data", b"limits@openssh.com", b"statvfs@openssh.com", b"expand-path@openssh.com")),
            name,
        ),
    }.get(kind, (name,))
    return packet(kind, rng.randrange(2**32), *fields)


@pytest.fixture
def powerless(python):
    """Options for a process that can harm nothing: random bytes may name anything."""
    if os.geteuid():
        return {}
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([python, "-c", ""], check=True, **options)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip(f"only root may run {python}")
    return options


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes(start, python, powerless, tmp_path_factory, seed):
    """It answers or it ends with one line; it never hangs, grows or shows a traceback."""
    rng = random.Random(seed)
    for _ in range(12):
        root = tmp_path_factory.mktemp("random")
        root.chmod(0o777)
        for path in root.parents:
            if path.name.startswith("pytest"):
                path.chmod(0o755)
        one = start([python, "-c", FILES.read_text()], root, **powerless)
        one.init()
        stream = bytearray()
        for _ in range(150):
            piece = bytearray(requests(rng, rng.choice((b"a", b"b", b"d/x", b"link", b"."))))
            if rng.random() < 0.5:  # the length still true
                for _ in range(rng.randrange(4)):
                    piece[rng.randrange(4, len(piece))] = rng.choice((0, 1, 4, 127, 128, 255, rng.randrange(256)))
            elif rng.random() < 0.05:
                piece = bytearray(rng.getrandbits(8) for _ in range(rng.randrange(1, 300)))
            stream += piece
        try:
            one.send(stream)
            one.process.stdin.close()
        except BrokenPipeError:
            pass
        while one.packet() is not None:
            pass
        status, said = one.wait()
        assert status in (0, 255), (status, said)
        assert said.count(b"\n") == (1 if status else 0) and len(said) < 300, said
