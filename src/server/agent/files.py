# An SFTP server for a Jupyter server without sftp-server: version 3 (draft-ietf-secsh-filexfer-02)
# with the extensions of OpenSSH's PROTOCOL file. Standard library, Python >= 3.6.
# The agent runs this source in a child, connected to the client by standard input and output, with
# a global variable `umask`. It is a program as well: sftp -D "python3 files.py".
# It answers as sftp-server of OpenSSH 9 does; tests/agent_files compares them. It runs as the user
# in the user's own server: the kernel refuses what it may not do.
import errno, grp, os, pwd, stat, struct, time

#: Bytes: OpenSSH's limits (sftp-common.h, sftp-server.c), and how much is read or answered at once.
MAX_PACKET = 256 * 1024
MAX_DATA = MAX_PACKET - 1024
INPUT = 1024 * 1024
OUTPUT = 256 * 1024
PATH_MAX = 4096
#: Seconds that an answer may wait for others to be sent with it.
PATIENCE = 0.02

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, \
    REALPATH, STAT, RENAME, READLINK, SYMLINK = range(1, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, NO_CONNECTION, CONNECTION_LOST, UNSUPPORTED = range(9)
TEXTS = (b"Success", b"End of file", b"No such file", b"Permission denied", b"Failure", b"Bad message",
         b"No connection", b"Connection lost", b"Operation unsupported")
CODES = {
    errno.ENOENT: NO_SUCH_FILE, errno.ENOTDIR: NO_SUCH_FILE, errno.EBADF: NO_SUCH_FILE, errno.ELOOP: NO_SUCH_FILE,
    errno.EPERM: PERMISSION_DENIED, errno.EACCES: PERMISSION_DENIED, errno.EFAULT: PERMISSION_DENIED,
    errno.ENAMETOOLONG: BAD_MESSAGE, errno.EINVAL: BAD_MESSAGE, errno.ENOSYS: UNSUPPORTED,
}
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES, HAS_EXTENDED = 1, 2, 4, 8, 0x80000000
HAS_ALL = HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES

U32, U64, OFFSET = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">q")
HEADER = struct.Struct(">IBI")  # length, kind, request
DATA_HEADER = struct.Struct(">IBII")  # and the data's length
ATTRIBUTES = struct.Struct(">IQIIIII")
MONTHS = (b"", b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


class Malformed(Exception):
    """The input is no packet. Nobody can tell what the sender meant, so we end, as OpenSSH does."""


class Status(Exception):
    """A request fails with a status, not with an error of the system."""

    def __init__(self, code, text=None):
        Exception.__init__(self, code)
        self.code, self.text = code, text


class Packet:
    """The fields of a request, one after another."""

    __slots__ = ("view", "at", "end")

    def __init__(self, view, at, end):
        self.view, self.at, self.end = view, at, end

    def take(self, count):
        start = self.at
        self.at = start + count
        if self.at > self.end:
            raise Malformed("a packet ends within a field")
        return start

    def u32(self):
        return U32.unpack_from(self.view, self.take(4))[0]

    def u64(self):
        return U64.unpack_from(self.view, self.take(8))[0]

    def offset(self):
        return OFFSET.unpack_from(self.view, self.take(8))[0]

    def string(self):
        count = self.u32()
        start = self.take(count)
        return self.view[start:start + count]

    def text(self):
        """Take a path or another string without NUL."""
        text, _, rest = bytes(self.string()).partition(b"\0")
        if rest:
            raise Malformed("a name has a null byte")
        return text

    def handle(self):
        """Take the number of a handle; None if it can't be one."""
        text = self.string()
        return U32.unpack(text)[0] if len(text) == 4 else None

    def attributes(self):
        """Take size, owner and group, mode, access and modification times; None for absent ones."""
        flags = self.u32()
        size = self.offset() if flags & HAS_SIZE else None
        owner = (self.u32(), self.u32()) if flags & HAS_OWNER else None
        mode = self.u32() if flags & HAS_MODE else None
        times = (self.u32(), self.u32()) if flags & HAS_TIMES else None
        if flags & HAS_EXTENDED:
            for _ in range(self.u32()):
                self.string(), self.string()
        return size, owner, mode, times


class File:
    def __init__(self, fd, append, path):
        self.fd, self.append, self.path = fd, append, path

    def close(self):
        os.close(self.fd)


class Directory:
    def __init__(self, path):
        self.path, self.error = path, None
        self.listing = os.scandir(path)
        self.entries = self.read()

    def read(self):
        """Yield name and lstat of each entry, except entries that have gone meanwhile."""
        for name in b".", b"..":  # scandir leaves them out
            try:
                found = os.lstat(os.path.join(self.path, name))
            except OSError:
                continue
            yield name, found
        for entry in self.listing:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry.name, found

    def close(self):
        self.listing.close()


class Server:
    def __init__(self):
        self.version = None
        self.parts, self.size, self.due = [], 0, 0.0
        self.handles, self.free = {}, []
        #: As in OpenSSH's limits@openssh.com; a few others are for what a request opens and closes.
        self.most_handles = max(os.sysconf("SC_OPEN_MAX") - 5, 0)
        self.users, self.groups, self.modes = {}, {}, {}

    def run(self):
        """Answer requests until the input ends."""
        view = memoryview(bytearray(INPUT))
        start = end = 0
        while True:
            count = os.readv(0, [view[end:]])
            if not count:
                return
            end += count
            try:
                start = self.answer_all(view, start, end)
            finally:
                self.flush()
            if start == end:
                start = end = 0
            elif start + 4 + MAX_PACKET > INPUT:
                view[:end - start] = view[start:end]
                start, end = 0, end - start

    def answer_all(self, view, start, end):
        """Answer all complete requests. Return where the rest begins."""
        while end - start >= 4:
            length, = U32.unpack_from(view, start)
            if not 1 <= length <= MAX_PACKET:
                raise Malformed("a packet of %d bytes" % length)
            if end - start < 4 + length:
                break
            self.answer(Packet(view, start + 4, start + 4 + length))
            start += 4 + length
            if self.size >= OUTPUT or self.size and time.monotonic() > self.due:
                self.flush()
        return start

    def flush(self):
        """Send the answers."""
        if not self.parts:
            return
        parts, self.parts, self.size = self.parts, [], 0
        if len(parts) > 64:  # the kernel allows 1024 at once
            parts = [b"".join(parts)]
        written = os.writev(1, parts)
        rest = memoryview(b"".join(parts))[written:] if written < sum(map(len, parts)) else b""
        while rest:
            rest = rest[os.write(1, rest):]

    def send(self, *parts):
        if not self.parts:
            self.due = time.monotonic() + PATIENCE
        self.parts += parts
        self.size += sum(map(len, parts))

    def reply(self, kind, request, body):
        self.send(HEADER.pack(5 + len(body), kind, request), body)

    def status(self, request, code, text=None):
        text = text or TEXTS[code]
        body = U32.pack(code)
        if self.version >= 3:
            body += U32.pack(len(text)) + text + U32.pack(0)
        self.reply(STATUS, request, body)

    def names(self, request, entries):
        """Answer with entries: name, long name, encoded attributes."""
        body = [U32.pack(len(entries))]
        for name, long_name, attributes in entries:
            body += U32.pack(len(name)), name, U32.pack(len(long_name)), long_name, attributes
        self.reply(NAME, request, b"".join(body))

    def answer(self, packet):
        kind = packet.view[packet.take(1)]
        if kind == INIT:
            self.init(packet)
            return
        if self.version is None:
            raise Malformed("a request before the protocol's version")
        request = packet.u32()
        try:
            if kind == READ:
                self.read(request, packet)
            elif kind == WRITE:
                self.write(request, packet)
            elif kind == EXTENDED:
                handler = self.EXTENSIONS.get(bytes(packet.text()))
                if handler is None:
                    raise Status(UNSUPPORTED)
                handler[1](self, request, packet)
            elif kind in self.REQUESTS:
                self.REQUESTS[kind](self, request, packet)
            # OpenSSH doesn't answer anything else either.
        except Status as status:
            self.status(request, status.code, status.text)
        except OSError as error:
            self.status(request, CODES.get(error.errno, FAILURE))
        except OverflowError:  # a number that a C function doesn't take
            self.status(request, BAD_MESSAGE)

    def init(self, packet):
        self.version = packet.u32()
        body = [U32.pack(3)]
        for name, (version, _) in self.EXTENSIONS.items():
            body += U32.pack(len(name)), name, U32.pack(len(version)), version
        body = b"".join(body)
        self.send(struct.pack(">IB", 1 + len(body), VERSION), body)

    # Handles

    def room(self):
        """Fail if no further handle may be opened."""
        if len(self.handles) >= self.most_handles:
            raise OSError(errno.EMFILE, "too many handles")

    def opened(self, request, what):
        number = self.free.pop() if self.free else len(self.handles)
        self.handles[number] = what
        self.reply(HANDLE, request, U32.pack(4) + U32.pack(number))

    def file(self, number, otherwise=FAILURE):
        found = self.handles.get(number)
        if not isinstance(found, File):
            raise Status(otherwise)
        return found

    def open(self, request, packet):
        path, wanted, (_, _, mode, _) = packet.text(), packet.u32(), packet.attributes()
        self.room()
        flags = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR)[wanted & 3]
        for bit, flag in (4, os.O_APPEND), (8, os.O_CREAT), (16, os.O_TRUNC), (32, os.O_EXCL):
            if wanted & bit:
                flags |= flag
        fd = os.open(path, flags | os.O_NOCTTY, 0o666 if mode is None else mode & 0o7777)
        self.opened(request, File(fd, bool(flags & os.O_APPEND), path))

    def opendir(self, request, packet):
        path = packet.text()
        self.room()
        self.opened(request, Directory(path))

    def close(self, request, packet):
        number = packet.handle()
        if number not in self.handles:
            raise Status(NO_SUCH_FILE)
        self.free.append(number)
        self.handles.pop(number).close()
        self.status(request, OK)

    # Contents

    def read(self, request, packet):
        handle, offset, count = packet.handle(), packet.offset(), packet.u32()
        file = self.file(handle)
        os.lseek(file.fd, offset, os.SEEK_SET)
        data = os.read(file.fd, min(count, MAX_DATA)) if count else b""
        if count and not data:
            raise Status(EOF)
        self.send(DATA_HEADER.pack(9 + len(data), DATA, request, len(data)), data)

    def write(self, request, packet):
        handle, offset, data = packet.handle(), packet.offset(), packet.string()
        file = self.file(handle)
        if not file.append:
            os.lseek(file.fd, offset, os.SEEK_SET)
        written = os.write(file.fd, data)
        self.status(request, OK if written == len(data) else FAILURE)

    def fsync(self, request, packet):
        os.fsync(self.file(packet.handle(), NO_SUCH_FILE).fd)
        self.status(request, OK)

    def copy_data(self, request, packet):
        source, source_at, count = packet.handle(), packet.offset(), packet.u64()
        target, target_at = packet.handle(), packet.offset()
        if source == target:
            raise Status(FAILURE)
        source, target = self.file(source), self.file(target)
        to_its_end = count == 0
        # OpenSSH compares the names only. A file copied into itself to its end has none.
        if source.path == target.path or to_its_end and os.path.sameopenfile(source.fd, target.fd):
            raise Status(FAILURE)
        os.lseek(source.fd, source_at, os.SEEK_SET)
        if not target.append:
            os.lseek(target.fd, target_at, os.SEEK_SET)
        while to_its_end or count:
            size = 65536 if to_its_end else min(65536, count)
            count -= 0 if to_its_end else size
            data = memoryview(os.read(source.fd, size))
            if not data:
                # As OpenSSH: it is no error if the file ends within the last piece.
                raise Status(EOF if count else OK)
            while data:
                data = data[os.write(target.fd, data):]
        self.status(request, OK)

    # Attributes

    @staticmethod
    def encode(found):
        return ATTRIBUTES.pack(HAS_ALL, found[6], found[4], found[5], found[0], found[7] & 0xFFFFFFFF,
                               found[8] & 0xFFFFFFFF)

    def stat(self, request, packet):
        self.reply(ATTRS, request, self.encode(os.stat(packet.text())))

    def lstat(self, request, packet):
        self.reply(ATTRS, request, self.encode(os.lstat(packet.text())))

    def fstat(self, request, packet):
        self.reply(ATTRS, request, self.encode(os.fstat(self.file(packet.handle()).fd)))

    def change(self, request, what, attributes, follow=True):
        """Change everything that can be; of several errors the last one counts."""
        size, owner, mode, times = attributes
        options = {} if follow else {"follow_symlinks": False}
        outcome = OK
        for value, change in (
                (size, lambda: os.truncate(what, size)),
                (mode, lambda: os.chmod(what, mode & 0o7777, **options)),
                (times, lambda: os.utime(what, times, **options)),
                # All ones mean "as it is".
                (owner, lambda: os.chown(what, *(-1 if n == 0xFFFFFFFF else n for n in owner), **options))):
            if value is None:
                continue
            try:
                change()
            except OSError as error:
                outcome = CODES.get(error.errno, FAILURE)
            except NotImplementedError:  # the mode of a symbolic link
                outcome = FAILURE
        self.status(request, outcome)

    def setstat(self, request, packet):
        self.change(request, packet.text(), packet.attributes())

    def fsetstat(self, request, packet):
        handle, attributes = packet.handle(), packet.attributes()
        self.change(request, self.file(handle).fd, attributes)

    def lsetstat(self, request, packet):
        path, attributes = packet.text(), packet.attributes()
        if attributes[0] is not None:
            raise Status(BAD_MESSAGE)
        self.change(request, path, attributes, follow=False)

    def statvfs(self, request, packet):
        self.send_statvfs(request, os.statvfs(packet.text()))

    def fstatvfs(self, request, packet):
        self.send_statvfs(request, os.fstatvfs(self.file(packet.handle()).fd))

    def send_statvfs(self, request, found):
        numbers = (found.f_bsize, found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files,
                   found.f_ffree, found.f_favail, getattr(found, "f_fsid", 0),  # Python 3.7
                   found.f_flag & (os.ST_RDONLY | os.ST_NOSUID), found.f_namemax)
        self.reply(EXTENDED_REPLY, request, struct.pack(">11Q", *numbers))

    # Directories

    def readdir(self, request, packet):
        directory = self.handles.get(packet.handle())
        if not isinstance(directory, Directory):
            raise Status(FAILURE)
        if directory.error:
            error, directory.error = directory.error, None
            raise error
        entries, now = [], time.time()
        try:
            for name, found in directory.entries:
                entries.append((name, self.long_name(name, found, now), self.encode(found)))
                if len(entries) == 100:
                    break
        except OSError as error:
            if not entries:
                raise
            directory.error = error
        if not entries:
            raise Status(EOF)
        self.names(request, entries)

    def long_name(self, name, found, now):
        """Return a line of `ls -l`."""
        mode, _, _, links, uid, gid, size, _, modified, _ = found
        shown = self.modes.get(mode)
        if shown is None:
            shown = self.modes[mode] = stat.filemode(mode).encode()
        user = known(self.users, pwd.getpwuid, uid) or b"%d" % uid
        group = known(self.groups, grp.getgrgid, gid) or b"%d" % gid
        return b"%b  %3d %-8b %-8b %8d %b %b" % (shown, links, user, group, size, date(modified, now), name)

    def mkdir(self, request, packet):
        path, (_, _, mode, _) = packet.text(), packet.attributes()
        os.mkdir(path, 0o777 if mode is None else mode & 0o7777)
        self.status(request, OK)

    def rmdir(self, request, packet):
        os.rmdir(packet.text())
        self.status(request, OK)

    # Names

    def remove(self, request, packet):
        os.unlink(packet.text())
        self.status(request, OK)

    def rename(self, request, packet):
        """Rename, but never replace a file."""
        old, new = packet.text(), packet.text()
        if stat.S_ISREG(os.lstat(old).st_mode):
            try:
                os.link(old, new, follow_symlinks=False)
            except OSError as error:
                # A file system without links, or the kernel's protected_hardlinks.
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EPERM):
                    raise
            else:
                try:
                    os.unlink(old)
                except OSError:
                    os.unlink(new)
                    raise
                self.status(request, OK)
                return
        try:
            os.stat(new)
        except OSError:
            os.rename(old, new)
            self.status(request, OK)
        else:
            raise Status(FAILURE)

    def posix_rename(self, request, packet):
        old, new = packet.text(), packet.text()
        os.rename(old, new)
        self.status(request, OK)

    def hardlink(self, request, packet):
        old, new = packet.text(), packet.text()
        os.link(old, new, follow_symlinks=False)
        self.status(request, OK)

    def symlink(self, request, packet):
        """The draft has the arguments in the other order; all clients do as OpenSSH did first."""
        old, new = packet.text(), packet.text()
        os.symlink(old, new)
        self.status(request, OK)

    def readlink(self, request, packet):
        self.one_name(request, os.readlink(packet.text()))

    def realpath(self, request, packet):
        self.one_name(request, real_path(packet.text() or b"."))

    def expand_path(self, request, packet):
        """Like realpath, with "~" for the directory where we started and "~user" for a home."""
        path = packet.text()
        if path == b"~" or path[:2] == b"~/":
            path = os.getcwdb() + b"/" + path[2:]
        elif path[:1] == b"~":
            user, _, rest = path[1:].partition(b"/")
            try:
                path = os.fsencode(pwd.getpwnam(os.fsdecode(user)).pw_dir) + b"/" + rest
            except KeyError:
                raise Status(NO_SUCH_FILE, b"no such user")
        elif path and path[:1] != b"/":
            path = os.getcwdb() + b"/" + path
        self.one_name(request, real_path(path or b"."))

    def home_directory(self, request, packet):
        try:
            home = pwd.getpwnam(os.fsdecode(packet.text())).pw_dir
        except KeyError:
            raise Status(FAILURE)
        self.one_name(request, os.fsencode(home))

    def one_name(self, request, name):
        self.names(request, [(name, name, U32.pack(0))])

    # Others

    def limits(self, request, packet):
        self.reply(EXTENDED_REPLY, request, struct.pack(">4Q", MAX_PACKET, MAX_DATA, MAX_DATA, self.most_handles))

    def users_groups_by_id(self, request, packet):
        body = []
        uids, gids = packet.string(), packet.string()
        for ids, names, lookup in (uids, self.users, pwd.getpwuid), (gids, self.groups, grp.getgrgid):
            if len(ids) % 4:
                raise Malformed("an id that isn't whole")
            found = [known(names, lookup, number) for number, in U32.iter_unpack(ids)]
            text = b"".join(U32.pack(len(name)) + name for name in found)
            body += U32.pack(len(text)), text
        self.reply(EXTENDED_REPLY, request, b"".join(body))

    REQUESTS = {
        OPEN: open, CLOSE: close, LSTAT: lstat, FSTAT: fstat, SETSTAT: setstat, FSETSTAT: fsetstat, OPENDIR: opendir,
        READDIR: readdir, REMOVE: remove, MKDIR: mkdir, RMDIR: rmdir, REALPATH: realpath, STAT: stat, RENAME: rename,
        READLINK: readlink, SYMLINK: symlink,
    }
    EXTENSIONS = {
        b"posix-rename@openssh.com": (b"1", posix_rename),
        b"statvfs@openssh.com": (b"2", statvfs),
        b"fstatvfs@openssh.com": (b"2", fstatvfs),
        b"hardlink@openssh.com": (b"1", hardlink),
        b"fsync@openssh.com": (b"1", fsync),
        b"lsetstat@openssh.com": (b"1", lsetstat),
        b"limits@openssh.com": (b"1", limits),
        b"expand-path@openssh.com": (b"1", expand_path),
        b"copy-data": (b"1", copy_data),
        b"home-directory": (b"1", home_directory),
        b"users-groups-by-id@openssh.com": (b"1", users_groups_by_id),
    }


def known(names, lookup, number):
    """Return the name of a user or group, empty for none. `names` is the cache."""
    name = names.get(number)
    if name is None:
        try:
            name = os.fsencode(lookup(number)[0])
        except (KeyError, OSError):
            name = b""
        if len(names) >= 4096:
            names.clear()
        names[number] = name
    return name


def date(seconds, now):
    """Format as `ls -l`: the time of day for the last half year, the year for others."""
    try:
        year, month, day, hour, minute = time.localtime(seconds)[:5]
    except (OSError, OverflowError, ValueError):
        return b""
    if now - 365 * 24 * 3600 // 2 < seconds <= now:
        return b"%b %2d %02d:%02d" % (MONTHS[month], day, hour, minute)
    return b"%b %2d  %d" % (MONTHS[month], day, year) if year < 10000 else b""


def real_path(path):
    """Like realpath(3), but the last component need not exist."""
    done, left, links = (b"/", path[1:], 0) if path[:1] == b"/" else (os.getcwdb(), path, 0)
    if len(left) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "path")
    while left:
        name, slash, left = left.partition(b"/")
        if name in (b"", b"."):
            continue
        if name == b"..":
            done = done[:done.rindex(b"/")] or b"/"
            continue
        before, done = done, os.path.join(done, name)
        if len(done) >= PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, "path")
        try:
            mode = os.lstat(done).st_mode
        except FileNotFoundError:
            if slash:
                raise
            break
        if stat.S_ISLNK(mode):
            links += 1
            if links > 33:
                raise OSError(errno.ELOOP, "path")
            target = os.readlink(done)
            done = b"/" if target[:1] == b"/" else before
            left = target + slash + left
            if len(left) >= PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, "path")
    return done


def main(umask):
    """Serve standard input. Return the exit status."""
    if umask is not None:
        os.umask(umask)
    try:
        os.chdir(os.path.expanduser(b"~"))
    except OSError:
        pass  # as sshd: a missing home is no reason to refuse
    try:
        Server().run()
        return 0
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the client is gone
    except Malformed as error:
        why, code = error, 255
    except BaseException as error:  # a line, and no traceback in the client's output
        why, code = repr(error), 1
    try:
        os.write(2, b"sftp server: ended: %b\n" % os.fsencode(str(why)))
    except OSError:
        pass
    return code


os._exit(main(globals().get("umask")))
