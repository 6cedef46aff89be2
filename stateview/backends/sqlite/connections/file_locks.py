"""Locks of database files that no `close` of this process drops.

On POSIX a process loses all of its locks on a file when it closes any descriptor of that file (fcntl(2)). So a thread
that only copies the store's files would let two processes write at once. Locks of an open file description, which Linux
has (F_OFD_SETLK), last until they are released. They conflict with POSIX locks of other programs as POSIX locks do.

SQLite calls `fcntl` through a table of system calls that may be replaced. The replacement must not take the GIL: SQLite
calls it while it holds mutexes, and each save would wait for busy Python threads more often. So it is machine code. It
does what this function does::

    int replacement(int fd, int cmd, struct flock *lock) {
        if (cmd < F_GETLK || cmd > F_SETLKW) return fcntl(fd, cmd, lock);
        int canonical = fd;
        if (lock->l_len == 0 || lock->l_start >= 0x40000000) {  // a database; else a -shm file
            struct stat status;
            if (fstat(fd, &status)) return fcntl(fd, cmd, lock);
            struct { long inode, device, descriptor; } *entry = table;
            for (; entry->inode != status.st_ino || entry->device != status.st_dev; entry++)
                if (entry->inode == 0) return fcntl(fd, cmd, lock);  // another program's database
            canonical = entry->descriptor;
        }
        lock->l_pid = 0;
        int result = fcntl(canonical, cmd + 31, lock);  // F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
        if (result || cmd == F_GETLK || lock->l_type != F_UNLCK || !early) return result;
        return fcntl(fd, cmd, lock);  // an early connection may hold POSIX locks, from before the replacement
    }

SQLite makes the calls for a database on the descriptor of any of its connections. Locks of a description are released
through that description alone, so these calls go to one descriptor, which the table names. A -shm file has one
descriptor in a process.
"""

from __future__ import annotations

import mmap
import os
import sys
from threading import RLock
from typing import Any, TypeVar

import apsw

from ....errors import BackendError

# The function above, assembled from tests/backends/sqlite/file_locks/*.S. The addresses of `fcntl`, `fstat` and the
# table follow it, and `early`.
_CODE = {
    "x86_64": (
        "8d46fb83f8020f87b4000000534154415541564881ec980000004189fc4189f54989d689fb48837a1000740a"
        "48817a08000000407c364889e6ff159100000085c0755d488b058e000000488b084885c9744e483b4c240875"
        "0a488b4808483b0c2474064883c018ebe18b581041c746180000000089df418d751f4c89f231c0ff15430000"
        "0085c075284183fd0574226641833e02751b48833d420000000074114489e74489ee4c89f231c0ff15170000"
        "004881c498000000415e415d415c5bc331c0ff2500000000"
    ),
    "aarch64": (
        "291400513f090071c8060054fd7bb4a9fd030091f35301a9f55b02a9f303002af403012af50302aaf603002a"
        "490840f9a90000b4490440f90a00a8d23f010aeb2b020054e1c300914905005820013fd66003003529050058"
        "2a0140f90a0300b4eb3343a95f010ceb810000542a0540f95f010beb6000005429610091f7ffff17361140b9"
        "bf1a00b9e003162a817e0011e20315aaa902005820013fd6a00100359f16007160010054a90240793f090071"
        "0101005469020058c90000b4e003132ae103142ae20315aa0901005820013fd6f35341a9f55b42a9fd7bcca8"
        "c0035fd64900005820011fd6"
    ),
}
_NAME = "stateview-locks"
_F_OFD_SETLK = 37  # of Linux, which a Python that was built for an old C library does not name
_PAGE_BYTES = mmap.PAGESIZE
_TABLE_BYTES = 16 * _PAGE_BYTES
_NUMBER_BYTES = 8  # of a `long`
_ENTRY_BYTES = 3 * _NUMBER_BYTES  # inode, device, descriptor
_LAST = (_TABLE_BYTES // _ENTRY_BYTES - 1) * _ENTRY_BYTES  # offset of the entry that ends the table
_FREE = -1  # the inode of an entry that is in no use. 0 ends the table


class _File:  # no dataclass, whose import and decorator take a tenth of the start of a command
    """A database that connections of this process are open to.

    Args:
        descriptor: the descriptor that holds SQLite's locks.
        offset: the place of its entry in the table.

    """

    def __init__(self, descriptor: int, offset: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.connections = 1


_Connection = TypeVar("_Connection", bound="LockedConnection")
_free = list(range(_LAST - _ENTRY_BYTES, -1, -_ENTRY_BYTES))  # offsets of entries
_mutex = RLock()
_mapped: list[mmap.mmap] = []  # never closed: SQLite calls the code
_files: dict[tuple[int, int], _File] = {}  # the databases that connections of this process are open to


def _install() -> mmap.mmap | None:
    """Install the replacement, and return its table; None where the system does not allow it."""
    if sys.platform != "linux" or sys.maxsize < 2**32 or (code := _CODE.get(os.uname().machine)) is None:
        return None
    import fcntl

    try:
        memory = _anonymous_file()
        try:
            # A `struct flock`: F_RDLCK and SEEK_SET, which are 0, the start, the length, and no process
            fcntl.fcntl(memory, getattr(fcntl, "F_OFD_SETLK", _F_OFD_SETLK), _pack(0, 0, 1, 0))
            os.ftruncate(memory, _PAGE_BYTES + _TABLE_BYTES)
            # Private, so that a child forked later has a table of its own
            out = mmap.mmap(
                memory, _TABLE_BYTES, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=_PAGE_BYTES
            )
            out[:_LAST] = _pack(_FREE) * (_LAST // _NUMBER_BYTES)
            vfs = apsw.VFS(_NAME, "unix")
            try:
                calls: tuple[Any, Any] = (vfs.xGetSystemCall("fcntl"), vfs.xGetSystemCall("fstat"))
                data = _pack(*calls, _address(memory, "rw-p"), bool(apsw.connections()))
                os.pwrite(memory, bytes.fromhex(code) + data, 0)
                _mapped.append(mmap.mmap(memory, _PAGE_BYTES, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))
                vfs.xSetSystemCall("fcntl", _address(memory, "r-xp"))
            finally:
                vfs.unregister()
        finally:
            os.close(memory)
    except (OSError, apsw.Error):
        return None  # an old kernel, or one that lets nobody map code
    return out


def _pack(*numbers: int) -> bytes:  # not struct, whose import takes longer than all that is packed here
    """Return an array of `long`."""
    return b"".join(number.to_bytes(_NUMBER_BYTES, sys.byteorder, signed=True) for number in numbers)


def _anonymous_file() -> int:
    """Open a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(_NAME, os.MFD_CLOEXEC)
    import tempfile  # a Python that was built for an old C library

    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


def _address(memory: int, permissions: str) -> int:
    """Return the address at which a file is mapped with these permissions."""
    status = os.fstat(memory)
    file = [f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)]
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if file[1] not in line:
                continue  # a process has hundreds of lines, and splitting each takes longer
            addresses, mapped, _, *mapped_file = line.split()[:5]
            if mapped == permissions and mapped_file == file:
                return int(addresses.partition("-")[0], 16)
    raise OSError(f"/proc/self/maps does not show the mapping {permissions}")


TABLE = _install()  # None: locks stay as the system has them


class LockedConnection(apsw.Connection):
    """A connection whose locks stay while this process opens and closes the files by other ways. See `open`."""

    _file: tuple[int, int] | None = None

    @classmethod
    def open(cls: type[_Connection], path: str, **arguments: Any) -> _Connection:
        """Open a connection. The further arguments are those of `apsw.Connection`."""
        while True:
            file = _acquire(path)
            try:
                connection = cls(path, **arguments)
            except BaseException:
                _release(file)
                raise
            connection._file = file
            if file in (None, _identity_at(path)):
                return connection
            connection.close()  # another process replaced or removed the file meanwhile

    def close(self, force: bool = False) -> None:
        """Close the connection, which releases its locks."""
        super().close(force)
        file, self._file = self._file, None
        _release(file)

    def __del__(self) -> None:
        self.close(force=True)


def _acquire(path: str) -> tuple[int, int] | None:
    """Enter a database into the table for one more connection; None where there is no table, or no such file.

    A signal handler or a finalizer may call this and `_release` in the middle of themselves on the same thread.
    """
    if TABLE is None:
        return None
    with _mutex:
        try:
            descriptor = _open(path)
        except OSError:
            return None  # SQLite says why
        identity = _identity(os.fstat(descriptor))
        while True:
            try:
                _files[identity].connections += 1
                break
            except KeyError:
                if not _free:
                    os.close(descriptor)
                    raise BackendError(f"{len(_files)} databases are open in this process", "Close some") from None
                new = _File(descriptor, _free.pop())
                if _files.setdefault(identity, new) is new:
                    break
                _free.append(new.offset)
        file = _files[identity]
        _put(file, identity[0], identity[1])
        if file.descriptor != descriptor:
            os.close(descriptor)
        return identity


def _release(identity: tuple[int, int] | None) -> None:
    """Remove a database from the table when its last connection is closed."""
    with _mutex:
        file = _files.get(identity) if identity is not None else None
        if identity is None or file is None:
            return  # no file, or the connection was inherited from a parent process
        elsewhere = file.connections == 1 and _is_open_elsewhere(identity)
        file.connections -= 1
        if not file.connections and not elsewhere:
            del _files[identity]
            _put(file, 0, _FREE)
            os.close(file.descriptor)
            _free.append(file.offset)


def _is_open_elsewhere(identity: tuple[int, int]) -> bool:
    """Return whether this process has the database open by a connection of apsw that is none of ours."""
    for connection in apsw.connections():
        try:
            if not isinstance(connection, LockedConnection) and _identity_at(connection.filename) == identity:
                return True
        except apsw.Error:
            continue  # closed meanwhile
    return False


def _put(file: _File, device: int, inode: int) -> None:
    """Write an entry of the table, the inode last: another thread may search the table."""
    assert TABLE is not None
    for index, number in ((2, file.descriptor), (1, device), (0, inode)):
        offset = file.offset + index * _NUMBER_BYTES
        TABLE[offset : offset + _NUMBER_BYTES] = _pack(number)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _identity_at(path: str) -> tuple[int, int] | None:
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _forget_files(_: object = (TABLE, _mapped)) -> None:
    """Empty the table of a child process. Its descriptors are its parent's too.

    The interpreter keeps this function to its end, and so what is mapped: SQLite calls the code when the last garbage
    collection closes a connection. By then the names of this module are gone.
    """
    global _mutex
    _mutex = RLock()
    for file in _files.values():
        os.close(file.descriptor)
        _put(file, 0, _FREE)
        _free.append(file.offset)
    _files.clear()
    if TABLE is not None:
        _renew_inherited_descriptors()


def _renew_inherited_descriptors() -> None:
    """Give a child process -shm descriptors of its own in place of those that it shares with its parent.

    Where a connection was open at the fork, SQLite would use its descriptor for the child's connections as well, and
    parent and child would not exclude each other.
    """
    import fcntl

    for name in os.listdir("/proc/self/fd"):
        link = f"/proc/self/fd/{name}"
        try:
            if os.readlink(link).removesuffix(" (deleted)").endswith("-shm"):
                mode = fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE
                own = os.open(link, mode | os.O_CLOEXEC)
                os.dup2(own, int(name), inheritable=False)
                os.close(own)
        except OSError:
            continue  # the descriptor of the listing itself, or a file that this process may no longer open


os.register_at_fork(after_in_child=_forget_files)
