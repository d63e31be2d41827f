# SPDX-License-Identifier: MIT
"""shared-memory.py PEER: named shared memory and ShareableList between Python's multiprocessing
and libmp, both ways. PEER (shared-memory-peer.c) does the C side of each test. TAP on stdout."""
import gc
import math
import os
import random
import subprocess
import sys
import time
import traceback
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import ShareableList, SharedMemory

ASCII, ACUTE, EURO, FACE = "a", "\u00e9", "\u20ac", "\U0001f600"


class PeerError(Exception):
    pass


class Peer:
    """The C process."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split(" ")
        answer[-1] = answer[-1].rstrip("\n")
        if answer[0] != "ok":
            raise PeerError(" ".join(answer[1:]) or "gone")
        return answer[1] if len(answer) == 2 else answer[1:]

    def error(self, *words):
        try:
            answer = self(*words)
        except PeerError as e:
            return str(e)
        raise AssertionError(f"{words} succeeded: {answer}")

    def items(self):
        answer = self("list-all")
        return [load(w) for w in ([answer] if isinstance(answer, str) else answer)]

    def end(self):
        self.process.stdin.close()
        return self.process.wait()


def dump(value):
    """A value as the peer reads it."""
    if value is None:
        return "n"
    if isinstance(value, bool):
        return f"b:{int(value)}"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, float):
        return "d:" + (value.hex() if math.isfinite(value) else str(value))
    return f"s:{value.encode().hex()}" if isinstance(value, str) else f"y:{value.hex()}"


def load(word):
    kind, _, value = word.partition(":")
    return {"n": lambda: None, "b": lambda: value == "1", "i": lambda: int(value),
            "d": lambda: float.fromhex(value), "s": lambda: bytes.fromhex(value).decode(),
            "y": lambda: bytes.fromhex(value), "?": lambda: UnicodeDecodeError}[kind]()


def same(a, b):
    """Equal, and of one type."""
    return len(a) == len(b) and all(type(x) is type(y) and x == y for x, y in zip(a, b))


def untracked(thing):
    """Keep Python's resource tracker from unlinking what C made or will unlink."""
    memory = thing if isinstance(thing, SharedMemory) else thing.shm
    resource_tracker.unregister(memory._name, "shared_memory")
    return thing


def read_all(items):
    """What Python reads; the exception for what it can not."""
    found = []
    for i in range(len(items)):
        try:
            found.append(items[i])
        except UnicodeDecodeError:
            found.append(UnicodeDecodeError)
    return found


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# ---- memory ----

def test_memory_of_c(c):
    name = c("create", "-", 5000)
    memory = untracked(SharedMemory(name))
    assert memory.size == 5000 and memory.name == name
    assert bytes(memory.buf) == bytes(5000)
    c("write", 4990, b"by C".hex())
    assert bytes(memory.buf[4990:4994]) == b"by C"
    memory.buf[0:9] = b"by Python"
    assert bytes.fromhex(c("read", 0, 9)) == b"by Python"
    memory.close()
    assert c("links") == "1"
    c("unlink")
    try:
        SharedMemory(name)
        raise AssertionError("still there")
    except FileNotFoundError:
        pass
    c("close")


def test_memory_of_python(c):
    memory = SharedMemory(create=True, size=5000)
    memory.buf[4990:] = b"by Python!"
    c("open", memory.name)
    assert c("size") == "5000"
    assert bytes.fromhex(c("read", 4990, 10)) == b"by Python!"
    c("write", 0, b"by C".hex())
    assert bytes(memory.buf[:4]) == b"by C"
    assert c.error("create", memory.name, 10) == "EEXIST"
    assert c("links") == "1"
    memory.unlink()
    assert c("links") == "0"
    assert c.error("unlink") == "ENOENT"
    assert bytes.fromhex(c("read", 0, 4)) == b"by C"
    memory.close()
    c("close")
    assert c.error("open", memory.name) == "ENOENT"


def test_taken_by_c(c):
    name = c("create", f"mp-test-{os.getpid()}-taken", 10)
    try:
        SharedMemory(name, create=True, size=10)
        raise AssertionError("created twice")
    except FileExistsError:
        pass
    c("unlink")
    c("close")


def elsewhere(program):
    """Run it by another Python; what it says, once its resource tracker has ended as well."""
    return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=True).stdout


def test_tracker_unlinks(c):
    """A Python that only opened it takes the name away when it ends. C can tell."""
    name = c("create", "-", 100)
    c("write", 0, b"kept".hex())
    elsewhere(f"from multiprocessing.shared_memory import SharedMemory; SharedMemory('{name}')")
    until(lambda: c("links") == "0")
    assert bytes.fromhex(c("read", 0, 4)) == b"kept"
    assert c.error("unlink") == "ENOENT"
    c("close")


def test_tracker_unregistered(c):
    """What the header advises keeps the name."""
    name = c("create", "-", 100)
    said = elsewhere(f"""
from multiprocessing.shared_memory import SharedMemory
from multiprocessing import resource_tracker
SharedMemory('{name}')
resource_tracker.unregister('/{name}', 'shared_memory')
""")
    assert said == "", said
    assert c("links") == "1"
    c("unlink")
    c("close")


# ---- lists ----

VALUES = [None, True, False, 0, -1, 42, 2**63 - 1, -2**63, 0.0, -273.154, 1e300, 5e-324, math.inf,
          "", "howdy", "8 bytes!", "h\u00e9llo", ACUTE * 7, EURO * 5, FACE * 9, "in\0side",
          b"", b"HoWdY", b"ab\0c", b"\0\1", bytes(range(255, 0, -1))]
# Changes of type that fit the 8 bytes each item has.
OTHERS = ["12345678", ACUTE * 4, b"\xff\0\xff", None, -7, 0.5, True, "", b"", EURO + "\0!"]


def test_list_of_c(c):
    name = c("list-create", "-", *map(dump, VALUES))
    items = untracked(ShareableList(name=name))
    assert len(items) == len(VALUES)
    assert same(read_all(items), VALUES), read_all(items)
    for i in range(len(VALUES)):
        for value in OTHERS:
            items[i] = value
            assert same([load(c("list-get", i))], [value]), (i, value)
        for value in OTHERS[::-1]:
            c("list-set", i, dump(value))
            assert same([items[i]], [value]), (i, value, items[i])
    assert same(c.items(), read_all(items))
    items.shm.close()
    c("list-unlink")
    c("list-close")


def test_list_of_python(c):
    items = ShareableList(VALUES)
    assert c("list-open", items.shm.name) == str(len(VALUES))
    # Python cuts strings of more bytes than characters: both read what is left of them.
    assert same(c.items(), read_all(items)), (c.items(), read_all(items))
    assert c.items() != VALUES
    for i in range(len(VALUES)):
        for value in OTHERS:
            c("list-set", i, dump(value))
            assert same([items[i]], [value]), (i, value, items[i])
        for value in OTHERS[::-1]:
            items[i] = value
            assert same([load(c("list-get", i))], [value]), (i, value)
    c("list-close")
    items.shm.unlink()
    items.shm.close()


def test_cpython_list(c):
    """The list of CPython's own test, its format and its limits, made by C."""
    values = ["howdy", b"HoWdY", -273.154, 100, None, True, 42]
    items = untracked(ShareableList(name=c("list-create", "-", *map(dump, values))))
    assert items.format == ShareableList(values, name=f"mp-test-{os.getpid()}").format
    gone = SharedMemory(f"mp-test-{os.getpid()}")
    gone.unlink()
    gone.close()
    assert items.format == "8s8sdqxxxxxx?xxxxxxxx?q"
    for value in values:
        assert c("list-count", dump(value)) == str(items.count(value))
        assert c("list-index", dump(value)) == str(items.index(value))
    assert c.error("list-index", dump(0)) == "ENOENT"
    c("list-set", 4, dump("space"))
    assert items.format == "8s8sdq8sxxxxxxx?q"
    for value in "far too many", "encod\u00e9es":
        assert c.error("list-set", 0, dump(value)) == "EMSGSIZE"
        try:
            items[0] = value
            raise AssertionError(f"{value} fits")
        except ValueError:
            pass
    c("list-set", 0, dump("encod\u00e9s"))
    assert items[0] == "encod\u00e9s"
    assert c.error("list-set", 7, dump(1)) == "ERANGE"
    items.shm.close()
    c("list-unlink")
    c("list-close")


def test_same_bytes(c):
    """Where Python cuts nothing both write the same, to the byte."""
    values = [v for v in VALUES if not isinstance(v, str) or v.isascii()]
    theirs = ShareableList(values)
    ours = untracked(ShareableList(name=c("list-create", "-", *map(dump, values))))
    assert theirs.shm.size == ours.shm.size
    assert bytes(theirs.shm.buf) == bytes(ours.shm.buf)
    ours.shm.close()
    c("list-unlink")
    c("list-close")
    theirs.shm.unlink()
    theirs.shm.close()


def test_empty_list(c):
    items = untracked(ShareableList(name=c("list-create", "-")))
    assert len(items) == 0 and items.shm.size == 16 and items.format == ""
    items.shm.close()
    c("list-unlink")
    c("list-close")
    items = ShareableList()
    assert c("list-open", items.shm.name) == "0"
    assert c("list-count", "n") == "0"
    c("list-close")
    items.shm.unlink()
    items.shm.close()


def test_nan(c):
    items = untracked(ShareableList(name=c("list-create", "-", dump(math.nan))))
    assert math.isnan(items[0]) and items.count(math.nan) == 0
    assert c("list-count", dump(math.nan)) == "0"
    items.shm.close()
    c("list-unlink")
    c("list-close")


def test_cut_character(c):
    """Where Python's cut goes through a character neither can read the item, until it is set."""
    items = ShareableList(["a" + ACUTE * 6, 1])
    c("list-open", items.shm.name)
    assert read_all(items) == [UnicodeDecodeError, 1]
    assert c.error("list-get", 0) == "EPROTO"
    assert c.error("list-count", dump(1)) == "EPROTO"
    c("list-set", 0, dump("whole"))
    assert items[0] == "whole"
    c("list-close")
    items.shm.unlink()
    items.shm.close()


def test_trailing_zeros(c):
    items = untracked(ShareableList(name=c("list-create", "-", dump(b"ab\0c\0"), dump("x\0\0"))))
    assert read_all(items) == [b"ab\0c", "x"] and c.items() == [b"ab\0c", "x"]
    items.shm.close()
    c("list-unlink")
    c("list-close")


def some_value(rng):
    kind = rng.randrange(8)
    if kind < 4:
        return [None, rng.random() < 0.5, rng.randrange(-2**63, 2**63), rng.uniform(-9, 9)][kind]
    text = "".join(rng.choice([ASCII, "Z", ACUTE, EURO, FACE, "\0"])
                   for _ in range(rng.randrange(40 if kind < 6 else 7))) + rng.choice(["", "."])
    value = text.rstrip("\0")
    return value if kind % 2 else value.encode()


def room_of(value, length):
    return 8 * (length(value) // 8 + 1) if isinstance(value, (str, bytes)) else 8


def bytes_of(value):
    return len(value.encode() if isinstance(value, str) else value)


def test_random_lists(c):
    """Lists of either, changed by either in turn: both always read the same."""
    rng = random.Random(3)
    for turn in range(60):
        values = [some_value(rng) for _ in range(rng.randrange(1, 12))]
        by_c = turn % 2 == 0
        if by_c:
            name = c("list-create", "-", *map(dump, values))
            items = untracked(ShareableList(name=name))
            assert same(read_all(items), values), (values, read_all(items))
        else:
            items = ShareableList(values)
            c("list-open", items.shm.name)
        rooms = [room_of(v, bytes_of if by_c else len) for v in values]
        values = read_all(items)
        for _ in range(40):
            i, value = rng.randrange(len(values)), some_value(rng)
            fits = not isinstance(value, (str, bytes)) or bytes_of(value) <= rooms[i]
            try:
                if rng.random() < 0.5:
                    items[i] = value
                else:
                    c("list-set", i, dump(value))
                assert fits, (value, rooms[i])
                values[i] = value
            except (ValueError, PeerError) as e:
                assert not fits and str(e) in ("EMSGSIZE",
                                               "bytes/str item exceeds available storage"), e
            assert same(read_all(items), values) and same(c.items(), values)
        if UnicodeDecodeError not in values:
            for value in values + [some_value(rng)]:
                assert c("list-count", dump(value)) == str(items.count(value))
        c("list-unlink")
        if not by_c:
            untracked(items)
        c("list-close")
        items.shm.close()


def main():
    before = sorted(os.listdir("/dev/shm"))
    c = Peer(sys.argv[1])
    tests = [(n[5:], f) for n, f in globals().items() if n.startswith("test_")]
    print(f"1..{len(tests) + 1}")
    for number, (name, test) in enumerate(tests, 1):
        try:
            test(c)
            print(f"ok {number} - {name}", flush=True)
        except Exception:
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {number} - {name}", flush=True)
            c.end()
            c = Peer(sys.argv[1])
    gc.collect()
    left = sorted(set(os.listdir("/dev/shm")) - set(before))
    status = c.end()
    print(f"{'not ok' if left or status else 'ok'} {len(tests) + 1} - nothing is left in /dev/shm")
    if left or status:
        print(f"# left: {left}; the peer ended with {status}")


main()
