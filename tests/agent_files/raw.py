"""A small SFTP client that asks for anything, in any order, and shows answers as they are."""

import os
import select
import struct
import subprocess
import time
from collections import namedtuple

(
    INIT,
    VERSION,
    OPEN,
    CLOSE,
    READ,
    WRITE,
    LSTAT,
    FSTAT,
    SETSTAT,
    FSETSTAT,
    OPENDIR,
    READDIR,
    REMOVE,
    MKDIR,
    RMDIR,
    REALPATH,
    STAT,
    RENAME,
    READLINK,
    SYMLINK,
) = range(1, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, _, _, UNSUPPORTED = range(9)
#: Flags of OPEN.
R, W, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32


class U64(int):
    """A number of eight bytes."""


class Raw(bytes):
    """Bytes that are sent as they are."""


Attributes = namedtuple("Attributes", "size owner mode times", defaults=(None,) * 4)
Status = namedtuple("Status", "code text")
Handle = namedtuple("Handle", "bytes")
Data = namedtuple("Data", "bytes")
Names = namedtuple("Names", "entries")
Name = namedtuple("Name", "name long attributes")
Extended = namedtuple("Extended", "bytes")


def encode(field):
    """A field as it is sent."""
    if isinstance(field, Raw):
        return bytes(field)
    if isinstance(field, U64):
        return struct.pack(">Q", field)
    if isinstance(field, int):
        return struct.pack(">I", field)
    if isinstance(field, Handle):
        field = field.bytes
    if isinstance(field, bytes):
        return struct.pack(">I", len(field)) + field
    assert isinstance(field, Attributes), field
    flags, body = 0, b""
    if field.size is not None:
        flags, body = 1, struct.pack(">Q", field.size)
    if field.owner is not None:
        flags, body = flags | 2, body + struct.pack(">II", *field.owner)
    if field.mode is not None:
        flags, body = flags | 4, body + struct.pack(">I", field.mode)
    if field.times is not None:
        flags, body = flags | 8, body + struct.pack(">II", *field.times)
    return struct.pack(">I", flags) + body


def packet(kind, *fields):
    """A packet with its length."""
    body = bytes([kind]) + b"".join(map(encode, fields))
    return struct.pack(">I", len(body)) + body


class Reader:
    """The fields of an answer."""

    def __init__(self, data):
        self.data = data

    def take(self, count):
        assert len(self.data) >= count, "the answer ends within a field"
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def string(self):
        return self.take(self.u32())

    def attributes(self):
        flags = self.u32()
        assert not flags & ~15, flags
        size = struct.unpack(">Q", self.take(8))[0] if flags & 1 else None
        owner = (self.u32(), self.u32()) if flags & 2 else None
        mode = self.u32() if flags & 4 else None
        times = (self.u32(), self.u32()) if flags & 8 else None
        return Attributes(size, owner, mode, times)


def decode(kind, reader):
    """An answer, which must have nothing beyond its last field."""
    if kind == STATUS:
        # Before version 3 there is no text.
        found = Status(reader.u32(), reader.string() if reader.data else None)
        assert found.text is None or reader.string() == b""
    elif kind == HANDLE:
        found = Handle(reader.string())
    elif kind == DATA:
        found = Data(reader.string())
    elif kind == NAME:
        found = Names([Name(reader.string(), reader.string(), reader.attributes()) for _ in range(reader.u32())])
    elif kind == ATTRS:
        found = reader.attributes()
    else:
        assert kind == EXTENDED_REPLY, kind
        return Extended(reader.data)
    assert not reader.data, reader.data
    return found


class Connection:
    """A server as a process, spoken to by its standard input and output."""

    def __init__(self, argv, cwd, env=None, **options):
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, "HOME": str(cwd), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **options,
        )
        self.number = 0
        self.received = bytearray()

    def send(self, data):
        """Raw bytes."""
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def packet(self, timeout=20.0):
        """The next packet without its length; None at the end of the output."""
        deadline = time.monotonic() + timeout
        while len(self.received) < 4 or len(self.received) < 4 + struct.unpack_from(">I", self.received)[0]:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "no answer in time"
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                assert not self.received, "the output ends within a packet"
                return None
            self.received += data
        end = 4 + struct.unpack_from(">I", self.received)[0]
        found = bytes(self.received[4:end])
        del self.received[:end]
        return found

    def init(self, version=3):
        """Begin; the server's version and extensions."""
        self.send(packet(INIT, version))
        answer = self.packet()
        assert answer is not None, self.process.stderr.read()
        assert answer[0] == VERSION
        reader = Reader(answer[1:])
        found, extensions = reader.u32(), {}
        while reader.data:
            name = reader.string()
            extensions[name] = reader.string()
        return found, extensions

    def post(self, kind, *fields):
        """Send a request and don't wait; its number."""
        self.number += 1
        self.send(packet(kind, self.number, *fields))
        return self.number

    def answer(self, number):
        """The next answer, which must be to this request."""
        data = self.packet()
        assert data is not None, "the server has ended: %r" % self.process.stderr.read()
        reader = Reader(data[1:])
        assert reader.u32() == number, "an answer to another request"
        return decode(data[0], reader)

    def ask(self, kind, *fields):
        """A request and its answer."""
        return self.answer(self.post(kind, *fields))

    def end(self, timeout=20.0):
        """Close the input; status, and what was said on standard error."""
        self.process.stdin.close()
        return self.wait(timeout)

    def wait(self, timeout=20.0):
        """Wait for the end; status, and what was said on standard error."""
        status = self.process.wait(timeout)
        return status, self.process.stderr.read()

    def close(self):
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for file in self.process.stdin, self.process.stdout, self.process.stderr:
            try:
                file.close()
            except BrokenPipeError:
                pass

    def peak_memory(self):
        """The most memory that it has had, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


class Both:
    """Asks our server and OpenSSH's the same, each in a directory of its own, and fails where they differ.

    `@/` at the beginning of a path stands for that directory. Where OpenSSH's server isn't installed only ours
    is asked.
    """

    def __init__(self, connections, roots):
        self.connections, self.roots = connections, roots

    def init(self, version=3):
        return self.agreed([one.init(version) for one in self.connections])

    def each(self, function):
        """Prepare something in each directory."""
        for root in self.roots:
            function(root)

    def ask(self, kind, *fields, same=None):
        """A request to both: their answer. `same` takes an answer to what must be equal of it."""
        answers = []
        for which, (one, root) in enumerate(zip(self.connections, self.roots)):
            mine = [self._field(field, which, root) for field in fields]
            answers.append(one.ask(kind, *mine))
        if isinstance(answers[0], Handle):
            assert all(isinstance(one, Handle) for one in answers), answers
            return tuple(answers)
        self.agreed([same(one) for one in answers] if same else answers, (kind, *fields))
        return answers[0]

    def extended(self, name, *fields, same=None):
        return self.ask(EXTENDED, name.encode(), *fields, same=same)

    @staticmethod
    def _field(field, which, root):
        if isinstance(field, tuple) and field and isinstance(field[0], Handle):
            return field[which]
        if isinstance(field, bytes) and field.startswith(b"@/"):
            return os.fsencode(root) + field[1:]
        return field

    def agreed(self, answers, about=None):
        """The answer, if it is the same."""
        plain = [self._plain(one, root) for one, root in zip(answers, self.roots)]
        assert all(one == plain[0] for one in plain[1:]), f"to {about!r}: ours {plain[0]!r}, theirs {plain[1:]!r}"
        return answers[0]

    def _plain(self, answer, root):
        """An answer without what differs by nature: the directory, and times of just now."""
        if isinstance(answer, Names):
            return Names(sorted((self._plain(one, root) for one in answer.entries), key=lambda one: one.name))
        if isinstance(answer, Name):
            attributes = self._plain(answer.attributes, root)
            if attributes.times:
                # Reading a directory changes when it was read last.
                attributes = attributes._replace(times=attributes.times[1:])
            return Name(*(one.replace(os.fsencode(root), b"@") for one in answer[:2]), attributes)
        if isinstance(answer, Attributes) and answer.times is not None:
            now = time.time()
            return answer._replace(times=tuple("now" if abs(now - one) < 600 else one for one in answer.times))
        return answer

    def open(self, path, flags=R, attributes=None):
        return self.ask(OPEN, path, flags, attributes or Attributes())

    def close(self, handle):
        return self.ask(CLOSE, handle)

    def list(self, path):
        """All entries of a directory, as both have them; None where it can't be opened."""
        handle = self.ask(OPENDIR, path)
        if not isinstance(handle, tuple) or isinstance(handle, Status):
            return None
        found = []
        for one, mine in zip(self.connections, handle):
            entries = []
            while True:
                answer = one.ask(READDIR, mine)
                if isinstance(answer, Status):
                    assert answer.code == EOF, answer
                    break
                assert len(answer.entries) <= 100
                entries += answer.entries
            found.append(Names(entries))
        self.close(handle)
        return self.agreed(found, (OPENDIR, path)).entries

    def trees(self):
        """What the directories have must be the same; that."""
        found = []
        for root in self.roots:
            tree = {}
            for top, directories, files in os.walk(os.fsencode(root)):
                for name in directories + files:
                    path = os.path.join(top, name)
                    status = os.lstat(path)
                    content = None
                    if os.path.islink(path):
                        content = os.readlink(path).replace(os.fsencode(root), b"@")
                    elif os.path.isfile(path):
                        with open(path, "rb") as file:
                            content = file.read()
                    tree[os.path.relpath(path, os.fsencode(root))] = (oct(status.st_mode), status.st_nlink, content)
            found.append(tree)
        assert all(one == found[0] for one in found[1:]), "the trees differ"
        return found[0]
