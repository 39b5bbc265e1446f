"""Files that are written atomically, read by many threads at once, and kept within a directory."""

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import re
import reprlib
import socket
import stat
import time
import weakref

UNFINISHED_PREFIX = ".writing-"
UNFINISHED_SECONDS = 3600  # a file that another process is writing is younger
LOCK_NAME = ".lock"
LONGEST_NAME = 255
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Some file systems cannot sync a directory, or do not open it.
_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
# The holder of a lock notes who it is just after it has the lock.
_SECONDS_UNTIL_NOTED, _MOST_LOOKS = 0.1, 10
_FORBIDDEN = re.compile(r"[\\\r\n]")
# Without waiting for a writer, as the opening of a FIFO would.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NOT_MADE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
_QUIET = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def atomic_write(path):
    """Give a path to write to; when all went well, what is there is synced to the disk and renamed to `path`."""
    directory, name = os.path.split(os.fspath(path))
    beside = os.path.join(directory, _unfinished_name(name))
    try:
        with failed_writes_named(path):
            yield beside
            descriptor = os.open(beside, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(beside, path)
            _sync_directory(directory or os.curdir)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise


@contextlib.contextmanager
def threads(count):
    """A pool of threads; an error, or Ctrl-C, waits for the tasks that run, not for those that are queued."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def failed_writes_named(path):
    """Errors of writing carry the file's name, which a write that fails, unlike an opening, does not give."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_WRITING and error.filename is None:
            error.filename = os.fspath(path)
        raise


def remove_unfinished(directory, seconds=0):
    """Remove what a killed process left half-written; with `seconds`, what nobody has written to for so long."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(UNFINISHED_PREFIX):
                with contextlib.suppress(FileNotFoundError):
                    if not seconds or time.time() - entry.stat(follow_symlinks=False).st_mtime > seconds:
                        os.remove(entry.path)


def _unfinished_name(name):
    """Return the temporary name beside `name`, of at most as many bytes as a file's name may have."""
    encoded, end = os.fsencode(name), f"-{os.getpid()}"
    if len(UNFINISHED_PREFIX) + len(encoded) + len(end) > LONGEST_NAME:
        digest = hashlib.sha256(encoded).hexdigest()[:32]
        kept = encoded[: LONGEST_NAME - len(UNFINISHED_PREFIX) - len(end) - len(digest) - 1]
        name = f"{kept.decode('utf-8', 'ignore')}-{digest}"
    return f"{UNFINISHED_PREFIX}{name}{end}"


class LockedError(ValueError):
    """Another process holds the lock of a directory."""


@contextlib.contextmanager
def locked(directory, error=LockedError):
    """Make a directory if need be and lock it; while another process holds the lock, an `error` names that one."""
    os.makedirs(directory, exist_ok=True)
    note = os.path.join(directory, LOCK_NAME)
    descriptor = _locked_descriptor(directory, note, error)
    if descriptor is None:  # neither the system nor the file system has locks: nothing keeps others away there
        yield directory
        return
    _HELD[descriptor] = os.getpid()
    try:
        with contextlib.suppress(OSError):
            text = f"process {os.getpid()} on host {socket.gethostname()}, since {time.strftime('%F %T %z')}"
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)
        yield directory
    finally:
        if _HELD.pop(descriptor, None) == os.getpid():
            with contextlib.suppress(OSError):
                os.remove(note)
            os.close(descriptor)


_HELD = {}
"""Descriptors that hold a lock, and the process that took it: a child that outlives its parent must not keep it."""


def _let_go():
    while _HELD:
        with contextlib.suppress(OSError):
            os.close(_HELD.popitem()[0])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _locked_descriptor(directory, note, error):
    """Descriptor that holds the lock; `None` where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None

    def is_locked(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise error(f"{os.fspath(directory)} is in use by another run: {holder}") from None
        except OSError:
            os.close(descriptor)
            return False
        return True

    # The note, since NFS locks for other hosts only what can be written; where none can be made, the directory.
    try:
        while is_locked(descriptor := open_regular(note, os.O_RDWR | os.O_CREAT | _NO_LINK)):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(note, follow_symlinks=False)):
                    return descriptor
            os.close(descriptor)  # its holder has just removed it
    except OSError as cause:
        if cause.errno not in _NOT_MADE:
            raise
    descriptor = os.open(directory, os.O_RDONLY | _QUIET)
    return descriptor if is_locked(descriptor) else None


def _holder(descriptor):
    """What the holder of a lock wrote of itself into the file that it locked; it is given some time for that."""
    text = b""
    for _ in range(_MOST_LOOKS):
        time.sleep(_SECONDS_UNTIL_NOTED)
        with contextlib.suppress(OSError):
            text = os.pread(descriptor, 300, 0)
        if text:
            break
    letters = text.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in letters) or "it left no note of itself"


def _sync_directory(directory):
    """Make the rename itself durable, where a directory can be synced."""
    if os.name != "posix":
        return
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NOT_SYNCED:
                raise


def write_text(path, text):
    """Write a file in UTF-8 atomically."""
    with atomic_write(path) as beside, open(beside, "w", encoding="utf-8") as file:
        file.write(text)


def printable(text):
    """Text of a file → text that no terminal obeys: control, format and unpaired characters as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def json_text(content, indent=2):
    """Dictionaries, lists and scalars → the text of a JSON file, in ASCII; ValueError for NaN and infinity."""
    return json.dumps(content, indent=indent, allow_nan=False) + "\n"


def parse_json(text):
    """JSON, a string or bytes, from anywhere → its value; ValueError too for what nests too deep, NaN and Infinity."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON: {error}") from error


def _refuse_constant(name):
    raise ValueError(f"{name} is not a number of JSON")


def read_bounded(path, parse, largest=1 << 20, error=ValueError):
    """File of at most `largest` bytes → `parse(bytes)`; each ValueError becomes an `error` that names the file."""
    path = os.fspath(path)
    with regular_file(path) as file:
        # Python makes room for all that it is asked to read.
        text = file.read(min(largest, os.fstat(file.fileno()).st_size) + 1)
    try:
        if len(text) > largest:
            raise ValueError(f"it must have at most {largest} bytes")
        return parse(text)
    except ValueError as cause:
        raise error(f"{path} is not valid: {cause}") from cause


class JsonFormat:
    """JSON objects that begin with `format`, a name, and `version`, a number; another version is refused."""

    def __init__(self, name, version, indent=2):
        self.head, self._indent = {"format": name, "version": version}, indent

    def text(self, content):
        """Dictionary without `format` and `version` → the text of a file, with them."""
        return json_text({**self.head, **content}, self._indent)

    def parse(self, text):
        """Text → the dictionary without `format` and `version`, which must be those of this format."""
        return self.content(parse_json(text))

    def content(self, value):
        """A value from JSON → the dictionary without `format` and `version`, which must be those of this format."""
        if not isinstance(value, dict):
            raise ValueError(f"it must hold a dictionary. Received: {type(value).__name__}")
        content = dict(value)
        for key, expected in self.head.items():
            received = content.pop(key, None)
            if type(received) is not type(expected) or received != expected:
                raise ValueError(f"`{key}` must be {expected!r}. Received: {key}={reprlib.repr(received)}")
        return content

    def write(self, path, content):
        """Write a file atomically."""
        write_text(path, self.text(content))

    def read(self, path, largest=1 << 20, error=ValueError):
        """Read what `write` wrote, of at most `largest` bytes."""
        return read_bounded(path, self.parse, largest, error)


def open_regular(path, flags=0):
    """Open a regular file → descriptor to read from; OSError for all else, none of which is waited for."""
    descriptor = os.open(path, os.O_RDONLY | _QUIET | flags, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))


def appended_file(path):
    """Open a regular file, that is there or not, to read it and to write at its end; a link or a FIFO is refused."""
    return open(path, "a+b", opener=lambda path, flags: open_regular(path, flags | _NO_LINK))


def files_below(root):
    """Sorted relative paths of all files below a directory; OSError if a part cannot be read, ValueError at a link."""

    def fails(error):
        raise error

    found = []
    for directory, below, names in os.walk(root, onerror=fails):
        for name in below:
            if os.path.islink(os.path.join(directory, name)):
                raise ValueError(f"{os.path.join(directory, name)} is a link to a directory, which is not followed")
        found += [os.path.relpath(os.path.join(directory, name), root).replace(os.sep, "/") for name in names]
    return sorted(found)


def regular_file(path, mode="rb", **options):
    """As `open`, to read a regular file; OSError for all else, none of which is waited for."""
    return open(path, mode, opener=lambda path, flags: open_regular(path), **options)


def read_whole(path, flags=0):
    """Return the content of a regular file."""
    descriptor = open_regular(path, flags)
    try:
        expected = os.fstat(descriptor).st_size
        parts = [os.read(descriptor, expected + 1)]
        if len(parts[0]) == expected:
            return parts[0]
        while parts[-1]:
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def is_contained(name):
    """As `is_below`, for a name from a text file: no backslash or line break either."""
    return is_below(name) and not _FORBIDDEN.search(name)


def is_below(path):
    """Tell whether a path with `/` names something below the directory that it starts from, without `..` on the way."""
    parts = path.split("/")
    return parts[0] != "" and ".." not in parts and any(part not in ("", ".") for part in parts) and "\0" not in path


class ContainedFiles:
    """The regular files below a directory, and none to which a name or a symbolic link leads out of it."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)
        self._contained = set()

    def relative(self, path):
        """Path, absolute or from the directory, with steps up or not → the shortest from the directory, with `/`."""
        relative = os.path.relpath(os.path.join(self.root, path), self.root).replace(os.sep, "/")
        if not is_below(relative):
            raise ValueError(f"{path} leads out of the directory {self.root}")
        return relative

    def checked_path(self, relative):
        """Return the path of what lies there, or raise ValueError if a link or the name leads out of the directory."""
        path = os.path.join(self.root, relative)
        real = os.path.realpath(path)
        if real != self._real_root and not real.startswith(os.path.join(self._real_root, "")):
            raise ValueError(f"{relative} leads out of the directory {self.root}, to {real}")
        return path

    def checked_file(self, relative):
        """As `checked_path`, of a regular file that can be read; for libraries that open files by their paths."""
        path = self.checked_path(relative)
        os.close(open_regular(path))
        return path

    def open(self, relative, mode="rb", **options):
        """As `regular_file`, below the directory."""
        return regular_file(self.checked_path(relative), mode, **options)

    def read(self, relative):
        """Return the bytes of a file; as `open`, but fast where a directory holds many files."""
        directory = os.path.dirname(relative)
        if directory not in self._contained:
            self.checked_path(directory)
            self._contained.add(directory)
        try:
            return read_whole(os.path.join(self.root, relative), getattr(os, "O_NOFOLLOW", 0))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        return read_whole(self.checked_path(relative))


class OpenFiles:
    """Files below a directory, opened at the first reading, again after a fork or pickling; no shared position."""

    def __init__(self, root, names):
        self.files, self.names = ContainedFiles(root), list(names)
        self._descriptors = {}
        weakref.finalize(self, _close, self._descriptors)

    def __getstate__(self):
        return self.files.root, self.names

    def __setstate__(self, state):
        self.__init__(*state)

    def descriptor(self, number):
        """Return the file descriptor of file `number` in this process, opened for reading."""
        key = (os.getpid(), number)
        descriptor = self._descriptors.get(key)
        if descriptor is None:
            opened = open_regular(self.files.checked_path(self.names[number]))
            # Of two threads that open the same file at once, the one that comes second closes its own.
            descriptor = self._descriptors.setdefault(key, opened)
            if descriptor != opened:
                os.close(opened)
        return descriptor

    def read(self, number, offset, length):
        """Return at most `length` bytes of file `number` from `offset` on; fewer only where the file ends."""
        descriptor = self.descriptor(number)
        content = os.pread(descriptor, length, offset)
        while len(content) < length:
            more = os.pread(descriptor, length - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content


def _close(descriptors):
    for descriptor in descriptors.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
