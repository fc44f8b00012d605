"""skystow's hands at a remote end: this one file, sent over stdin to a plain `python3` (3.6 or later) by ssh.

It is never imported there and needs nothing but the standard library. A request is `<length>\\n` and that many bytes of
JSON; so is an answer. Paths are bytes, written as latin-1 text. Every path is walked below its root, component by
component, with O_NOFOLLOW. Answers: {"ok": …}, {"errno": n, "text": …}; before it {"beat": 1}, {"part": …}, {"raw": n}.
A path in a list has an answer of its own: an errno, or what was asked. Nothing here overwrites a name.
"""

import ctypes
import errno
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import time

HOME = b".skystow"
STAGING = HOME + b"/staging"
PARTIAL = HOME + b"/partial"
KEPT_FOR = 14 * 86400
TOKEN = re.compile(r"[0-9a-f]{1,128}\Z")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
WHOLE = (0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994)  # ext4, xfs, btrfs, f2fs, tmpfs: syncfs is enough
BLOCK = 1 << 20
PART = 1000
libc = ctypes.CDLL(None, use_errno=True)
last_sent = time.monotonic()


def send(answer, raw=b""):
    global last_sent
    text = json.dumps(answer).encode()
    sys.stdout.buffer.write(b"%d\n" % len(text) + text + raw)
    sys.stdout.buffer.flush()
    last_sent = time.monotonic()


def beat():
    """Long work says that it lives; where nobody listens any more, this ends us."""
    if time.monotonic() - last_sent > 0.5:
        send({"beat": 1})


def checked(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def raw(text):
    return text.encode("latin-1")


def look_of(found):
    return [found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns, found.st_nlink]


def each(items, act):
    """The answers of a list: an error is one item's own."""
    answers = []
    for item in items:
        try:
            answers.append(act(item))
        except OSError as error:
            answers.append(error.errno or errno.EIO)
        beat()
    return answers


def hashers():
    known = {"sha256": hashlib.sha256, "md5": lambda: hashlib.md5()}
    try:
        hashlib.md5()
    except ValueError:  # forbidden on this machine
        known["md5"] = lambda: hashlib.new("md5", usedforsecurity=False)
    for name, module in (("blake3", "blake3"), ("xxh128", "xxhash")):
        try:
            known[name] = getattr(__import__(module), name)
        except ImportError:
            pass
    return known


HASHERS = hashers()


def digests(fd, algorithms):
    running = [HASHERS[name]() for name in algorithms]
    at = 0
    while True:
        block = os.pread(fd, BLOCK, at)
        if not block:
            return {name: one.hexdigest() for name, one in zip(algorithms, running)}
        for one in running:
            one.update(block)
        at += len(block)
        beat()


class Tree:
    """A root and what is below it; directories are kept open, because walking costs more than a small file."""

    def __init__(self, root, marker):
        self.root = os.path.realpath(root)
        self.marker = marker
        self.kept = {}

    def top(self):
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.marker is not None:
            try:
                os.stat(self.marker, dir_fd=fd, follow_symlinks=False)
            except OSError:
                os.close(fd)
                raise
        return fd

    def forget(self):
        for fd in self.kept.values():
            os.close(fd)
        self.kept = {}

    def walk(self, path, make=None):
        """The directory `path`; `make(name, fd above)` is called for each component that is missing."""
        if path in self.kept:
            return self.kept[path]
        if not path:
            return self.keep(path, self.top())
        above, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "not a path below a root")
        at = self.walk(above, make)
        try:
            fd = os.open(name, DIRECTORY, dir_fd=at)
        except FileNotFoundError:
            if make is None:
                raise
            make(name, at)
            fd = os.open(name, DIRECTORY, dir_fd=at)
        return self.keep(path, fd)

    def keep(self, path, fd):
        if len(self.kept) >= 256:
            # The newest are the ones in use; closing the oldest half can take none of the chain being walked.
            for old in list(self.kept)[:128]:
                if old and not path.startswith(old + b"/"):
                    os.close(self.kept.pop(old))
        self.kept[path] = fd
        return fd

    def at(self, path):
        """(fd of the directory, name) of a path."""
        if path.startswith(b"/") or b"\0" in path:
            raise OSError(errno.EINVAL, "not a path below a root")
        above, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "not a path below a root")
        return self.walk(above), name

    def open(self, path):
        above, name = self.at(path)
        fd = os.open(name, READ, dir_fd=above)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EISDIR, "not a regular file")
        return fd

    def area(self, token, make=None):
        if not TOKEN.match(token):
            raise OSError(errno.EINVAL, "not the token of a claim")
        return self.walk(STAGING + b"/" + token.encode(), make)


TREES = {}  # type: "dict[tuple[str, str], Tree]"


def tree_of(request):
    key = (request["root"], request.get("marker"))
    if key not in TREES:
        marker = request.get("marker")
        TREES[key] = Tree(raw(request["root"]), None if marker is None else raw(marker))
    tree = TREES[key]
    if request.get("fresh"):
        tree.forget()
    return tree


def private(name, above):
    try:
        os.mkdir(name, 0o755 if name == HOME else 0o700, dir_fd=above)
    except FileExistsError:
        pass


def remove_below(fd, name):
    """Remove what is staged, whatever it is."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    else:
        return
    below = os.open(name, DIRECTORY, dir_fd=fd)
    try:
        for entry in os.listdir(below):
            remove_below(below, os.fsencode(entry))
            beat()
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=fd)


def number(given, look_up):
    if given is None or isinstance(given, int):
        return -1 if given is None else given
    try:
        return int(given) if given.isdigit() else look_up(given)
    except KeyError:
        raise OSError(errno.EINVAL, "no such user or group: " + given)


def owner_of(request):
    user = number(request.get("owner"), lambda name: pwd.getpwnam(name).pw_uid)
    return user, number(request.get("group"), lambda name: grp.getgrnam(name).gr_gid)


def syncs_whole(fd):
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or not release or tuple(map(int, release.groups())) < (5, 8):
        return False
    result = ctypes.create_string_buffer(256)
    checked(libc.fstatfs(fd, result))
    word = ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(result.raw[:word], sys.byteorder) & 0xFFFFFFFF in WHOLE


def same_inode(fd, name, inode):
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_ino == inode


# ── what can be asked; each is called as do_<op>(tree, request) ─────────────────────────────────────────────────────


def do_present(tree, _):
    fd = tree.top()
    try:
        return {"device": os.fstat(fd).st_dev, "empty": not os.listdir(fd), "root": tree.root.decode("latin-1")}
    finally:
        os.close(fd)


def do_make(tree, _):
    """Make the root where it is missing; the directory above it is not made."""
    try:
        os.mkdir(tree.root)
    except FileExistsError:
        return
    above = os.open(os.path.dirname(tree.root), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(above)
    os.close(above)


def do_look(tree, request):
    def look(path):
        above, name = tree.at(raw(path))
        return look_of(os.stat(name, dir_fd=above, follow_symlinks=False))

    return each(request["paths"], look)


def do_probe(tree, request):
    """Why a file cannot be read: 0 where it can."""

    def probe(path):
        fd = tree.open(raw(path))
        try:
            os.read(fd, 1)
        finally:
            os.close(fd)
        return 0

    return each(request["paths"], probe)


def do_list(tree, request):
    """Sends the entries of each directory in parts: [which directory, [[name, look], …]], or [which, errno]."""
    for which, path in enumerate(request["paths"]):
        entries = []
        try:
            at = os.dup(tree.walk(raw(path)))
            try:
                for name in map(os.fsencode, os.listdir(at)):  # Python 3.6 cannot scan a descriptor
                    try:
                        look = look_of(os.stat(name, dir_fd=at, follow_symlinks=False))
                    except FileNotFoundError:
                        continue
                    entries.append([name.decode("latin-1"), look])
                    if len(entries) == PART:
                        send({"part": [which, entries]})
                        entries = []
            finally:
                os.close(at)
            send({"part": [which, entries]})
        except OSError as error:
            send({"part": [which, error.errno or errno.EIO]})
    return


def do_digest(tree, request):
    def digest(path):
        fd = tree.open(raw(path))
        try:
            return digests(fd, request["algorithms"])
        finally:
            os.close(fd)

    return each(request["paths"], digest)


def do_fetch(tree, request):
    fd = tree.open(raw(request["path"]))
    try:
        while True:
            block = os.read(fd, BLOCK)
            if not block:
                return
            send({"raw": len(block)}, block)
    finally:
        os.close(fd)


def do_area(tree, request):
    """A directory of the claim's own for rsync to write into, its path below the root; and the root's real path."""
    path = STAGING + b"/" + request["token"].encode()
    tree.forget()
    tree.area(request["token"], private)
    tree.walk(path + b"/in", private)
    return {"into": (path + b"/in").decode("latin-1"), "root": tree.root.decode("latin-1")}


def do_part(tree, request):
    """The same for one large file: the longest part of earlier tries becomes the basis, which is only read."""
    tree.forget()
    tree.area(request["token"], private)
    home = PARTIAL + b"/" + raw(request["key"])
    tree.walk(home, private)
    tree.walk(home + b"/basis", private)
    best = None
    for where in os.listdir(tree.walk(home)):
        for inner in (os.fsencode(where), os.fsencode(where) + b"/.part"):
            try:
                below = tree.walk(home + b"/" + inner)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in os.listdir(below):
                found = os.stat(entry, dir_fd=below, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and (best is None or found.st_size > best[0]):
                    best = (found.st_size, inner, os.fsencode(entry))
    if best is not None and best[1] != b"basis":
        below, basis = tree.walk(home + b"/" + best[1]), tree.walk(home + b"/basis")
        os.rename(best[2], raw(request["name"]), src_dir_fd=below, dst_dir_fd=basis)
    for where in map(os.fsencode, os.listdir(tree.walk(home))):
        if where != b"basis":
            remove_below(tree.walk(home), where)
    tree.forget()
    into = home + b"/" + request["token"].encode()
    tree.walk(into, private)
    return {"into": into.decode("latin-1"), "root": tree.root.decode("latin-1")}


def do_land(tree, request):
    """Read back what rsync brought, and give it its staged name: [digests, size, inode]."""
    area = tree.area(request["token"])
    into = raw(request["into"]) + b"/"

    def land(item):
        path, number, algorithms = item
        above, name = tree.at(into + raw(path))
        fd = tree.open(into + raw(path))
        try:
            found = os.fstat(fd)
            proof = digests(fd, algorithms)
            os.rename(name, b"%d" % number, src_dir_fd=above, dst_dir_fd=area)
            return [proof, found.st_size, found.st_ino]
        finally:
            os.close(fd)

    return each(request["items"], land)


def do_redigest(tree, request):
    """The same of a staged file, by digests that nobody asked for before."""
    fd = os.open(b"%d" % request["number"], READ, dir_fd=tree.area(request["token"]))
    try:
        return [digests(fd, [name])[name] for name in request["algorithms"]]
    finally:
        os.close(fd)


def do_landed(tree, request):
    """The run is over: what it left half done goes, the area too where it is empty."""
    tree.forget()
    above, _, name = raw(request["into"]).rpartition(b"/")
    if above == STAGING + b"/" + request["token"].encode():
        remove_below(tree.walk(above), name)
    elif request["whole"] and above.startswith(PARTIAL + b"/"):
        remove_below(tree.walk(PARTIAL), above.rpartition(b"/")[2])
    leave_area(tree, request["token"])


def do_seal(tree, request):
    """items: [staged number or path, mtime or None]; a path is of a file that was there: only synced."""
    user, group = owner_of(request)
    fds = []
    try:
        area = tree.area(request["token"]) if any(isinstance(one, int) for one, _ in request["items"]) else None
        for one, mtime in request["items"]:
            if isinstance(one, int):
                fd = os.open(b"%d" % one, READ, dir_fd=area)
                fds.append(fd)
                if (user, group) != (-1, -1):
                    os.fchown(fd, user, group)
                os.fchmod(fd, request["mode"])
                if mtime is not None:
                    os.utime(fd, ns=(mtime, mtime))
            else:
                fds.append(tree.open(raw(one)))
        make_durable(fds, request["sync"])
    finally:
        for fd in fds:
            os.close(fd)


def make_durable(fds, how):
    if fds and (how == "syncfs" or (how == "auto" and len(fds) >= 16 and syncs_whole(fds[0]))):
        checked(libc.syncfs(fds[0]))
        return
    for fd in fds:
        os.fsync(fd)
        beat()


def do_publish(tree, request):
    """items: [staged number, inode, target]; answers 0, an errno, or "swept" for a claim that has no area any more."""
    user, group = owner_of(request)

    def public(name, above):
        try:
            os.mkdir(name, request["mode"] & 0o777, dir_fd=above)
        except FileExistsError:
            return
        fd = os.open(name, DIRECTORY, dir_fd=above)
        try:
            if (user, group) != (-1, -1):
                os.fchown(fd, user, group)
            os.fchmod(fd, request["mode"])
        finally:
            os.close(fd)

    def publish(item):
        number, inode, target = item
        above, _, name = raw(target).rpartition(b"/")
        at = tree.walk(above, public)
        try:
            if os.fstat(at).st_nlink == 0:  # removed under us
                tree.forget()
                at = tree.walk(above, public)
            area = tree.area(request["token"])
            give_name(b"%d" % number, area, name, at)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOENT) and same_inode(at, name, inode):
                return 0
            if error.errno == errno.ENOENT and not staged(tree, request["token"], number):
                return "swept"
            if error.errno == errno.ENOENT:
                tree.forget()
            raise
        return 0

    return each(request["items"], publish)


def staged(tree, token, number):
    try:
        os.stat(b"%d" % number, dir_fd=tree.area(token), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def give_name(staged_name, area, name, at):
    try:
        os.link(staged_name, name, src_dir_fd=area, dst_dir_fd=at, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        trial = staged_name + b".link"
        try:
            os.link(staged_name, trial, src_dir_fd=area, dst_dir_fd=area, follow_symlinks=False)
        except OSError:  # no links at all here: a rename that refuses to overwrite, or nothing
            if not hasattr(libc, "renameat2"):
                raise OSError(errno.EOPNOTSUPP, "neither hard links nor renameat2 work")
            checked(libc.renameat2(area, staged_name, at, name, 1))
            return
        os.unlink(trial, dir_fd=area)
        raise


def do_sync(tree, request):
    """The directories of these paths, and each above them up to the root."""
    wanted = set()
    for path in request["paths"]:
        above = raw(path).rpartition(b"/")[0]
        while above and above not in wanted:
            wanted.add(above)
            above = above.rpartition(b"/")[0]
    tree.forget()  # a directory that was replaced meanwhile must not be what is synced
    fds = [tree.top()]
    try:
        for path in wanted:
            fds.append(os.dup(tree.walk(path)))
        make_durable(fds, request["sync"])
    finally:
        for fd in fds:
            os.close(fd)


def leave_area(tree, token):
    try:
        os.rmdir(token.encode(), dir_fd=tree.walk(STAGING))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    tree.forget()


def do_drop(tree, request):
    try:
        area = tree.area(request["token"])
    except FileNotFoundError:
        return
    for number in request["numbers"]:
        try:
            os.unlink(b"%d" % number, dir_fd=area)
        except FileNotFoundError:
            pass
    leave_area(tree, request["token"])


def do_tokens(tree, request):
    """Those in whose areas no name came or went for `idle` seconds."""
    tree.forget()
    forget_old_parts(tree)
    found, before = [], time.time() - request["idle"]
    try:
        staging = tree.walk(STAGING)
        entries = sorted(os.listdir(staging))
    except FileNotFoundError:
        os.close(tree.top())
        return []
    for name in entries:
        try:
            if TOKEN.match(name) and (not request["idle"] or os.stat(name, dir_fd=staging).st_mtime < before):
                found.append(name)
        except FileNotFoundError:
            pass
    return found


def forget_old_parts(tree):
    """Nobody came back for them in two weeks."""
    try:
        parts = tree.walk(PARTIAL)
        for name in map(os.fsencode, os.listdir(parts)):
            if time.time() - os.stat(name, dir_fd=parts, follow_symlinks=False).st_mtime > KEPT_FOR:
                remove_below(parts, name)
    except FileNotFoundError:
        pass


def do_sweep(tree, request):
    if not TOKEN.match(request["token"]):
        raise OSError(errno.EINVAL, "not the token of a claim")
    tree.forget()
    try:
        remove_below(tree.walk(STAGING), request["token"].encode())
    except FileNotFoundError:
        pass
    tree.forget()


def do_room(tree, _):
    found = os.fstatvfs(tree.walk(b""))
    return [found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize]


def do_remove(tree, request):
    """Remove a file of this size and mtime, sync its directory; "changed" where it is another."""
    above, name = tree.at(raw(request["path"]))
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    expected = (request["size"], request["mtime"])
    real = (found.st_size, found.st_mtime_ns)
    if not stat.S_ISREG(found.st_mode) or any(e is not None and e != r for e, r in zip(expected, real)):
        return "changed"
    os.unlink(name, dir_fd=above)
    os.fsync(above)
    return "removed"


def do_trial(tree, request):
    """Really write, sync, link and remove a probe file; how names are given, or an error."""
    tree.forget()
    token = request["token"]
    area = tree.area(token, private)
    try:
        fd = os.open(b"1", NEW, 0o600, dir_fd=area)
        try:
            os.write(fd, b"skystow was here\n")
            began = time.monotonic()
            os.fsync(fd)
            took = time.monotonic() - began
        finally:
            os.close(fd)
        give_name(b"1", area, b"2", area)
        os.mkdir(b"3", 0o700, dir_fd=area)
        fd = os.open(b"3", DIRECTORY, dir_fd=area)
        os.fchmod(fd, request["mode"])
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.close(fd)
        return {"sync_ms": took * 1e3, "by": "hard link" if staged(tree, token, 1) else "rename", "mode": mode}
    finally:
        do_sweep(tree, request)
        for above, name in ((HOME, b"staging"), (b"", HOME)):
            try:
                os.rmdir(name, dir_fd=tree.walk(above))
            except OSError:  # in use: there is more in it than our probe
                break
        tree.forget()


def hello():
    rsync = None
    if shutil.which("rsync"):
        done = subprocess.run(["rsync", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        rsync = done.stdout.decode("ascii", "replace")
    return {"python": list(sys.version_info[:3]), "algorithms": sorted(HASHERS), "rsync": rsync, "uid": os.geteuid()}


def main():
    if sys.version_info < (3, 6):
        send({"old": list(sys.version_info[:3])})
        return
    sys.stdout.buffer.write(b"skystow-helper\n")
    send({"ok": hello()})
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        request = json.loads(sys.stdin.buffer.read(int(line)).decode())
        try:
            send({"ok": globals()["do_" + request["op"]](tree_of(request), request)})
        except BrokenPipeError:
            return
        except OSError as error:
            send({"errno": error.errno or errno.EIO, "text": str(error.strerror or error)})


if __name__ == "__main__":
    main()
