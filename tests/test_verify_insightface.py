"""What a .bin may hold, and that nothing of what it may not hold is run."""

import builtins
import operator
import os
import pickle
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from facecore.errors import DataError, FacecoreError, OptionError
from facecore.verify.protocols import open_protocol

IMAGES = [b"\xff\xd8 one", b"\xff\xd8 two", b"\xff\xd8 one", b"\xff\xd8 \0three\0"]
SAME = [True, False]


def refused(path, what):
    return (
        DataError,
        f"{path} holds {what}, which is neither a byte string nor a boolean; it was refused and nothing of it was run",
    )


def line_of(path, data, images=None):
    path.write_bytes(data)
    with pytest.raises(FacecoreError) as error:
        open_protocol(path, images)
    return type(error.value), str(error.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.bin"


def as_arrays(images):
    return [np.frombuffer(image, np.uint8) for image in images]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content",
    [
        (IMAGES, SAME),
        [tuple(IMAGES), tuple(SAME)],
        (IMAGES, np.array(SAME)),
        (IMAGES, [np.True_, np.False_]),
        (IMAGES, list(np.array(SAME))),
        (as_arrays(IMAGES), SAME),
        ([image.copy() for image in as_arrays(IMAGES)], np.array(SAME)),
    ],
    ids=["lists", "tuples", "bool array", "numpy booleans", "booleans of an array", "byte arrays", "writable arrays"],
)
def test_what_a_bin_may_hold(path, protocol, content):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = open_protocol(path)
    assert found.images == ("x.bin[0]", "x.bin[1]", "x.bin[3]")  # the third is the first again
    assert [found.read(name) for name in found.images] == [IMAGES[0], IMAGES[1], IMAGES[3]]
    assert (found.left.tolist(), found.right.tolist()) == ([0, 0], [1, 2])
    assert (found.same.tolist(), found.fold.tolist()) == (SAME, [1, 2])


def test_python_2_byte_strings(path):
    # cPickle.dumps((['\xff\xd8', 'b'], [True]), 2) and, as protocol 0, with numpy's old address and bytes for dtypes
    path.write_bytes(b"\x80\x02]q\x01(U\x02\xff\xd8q\x02U\x01bq\x03e]q\x04\x88a\x86q\x05.")
    found = open_protocol(path)
    assert [found.read(name) for name in found.images] == [b"\xff\xd8", b"b"]
    scalar = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'b1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbS'\\x01'\ntR"
    )
    path.write_bytes(b"((lS'\\xff\\xd8'\naS'b'\na(l" + scalar + b"at.")
    assert open_protocol(path).same.tolist() == [True]


def test_ten_contiguous_folds(path):
    images = [bytes([number]) for number in range(46)]
    path.write_bytes(pickle.dumps((images, [True] * 23)))
    assert open_protocol(path).fold.tolist() == sorted([*range(1, 11), *range(1, 11), 1, 2, 3])


class Call:
    """Pickles as a call: what every attack starts with."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def canary(tmp_path):
    """A file that must not come into being, and Python that makes it."""
    file = tmp_path / "ran"
    yield SimpleNamespace(file=file, python=f"open({str(file)!r}, 'w').close()", shell=f"touch '{file}'")
    assert not file.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_and_not_made(path, canary, protocol):
    named = "__builtin__" if protocol < 3 else "builtins"
    evil = pickle.dumps((IMAGES, [Call(builtins.eval, canary.python), True]), protocol=protocol)
    assert line_of(path, evil) == refused(path, f"{named}.eval")
    evil = pickle.dumps(Call(os.system, canary.shell), protocol=protocol)
    assert line_of(path, evil) == refused(path, f"{os.system.__module__}.system")


def test_the_canary_sings(path, tmp_path):
    """The attack of the test above does work on a plain unpickler."""
    pickle.loads(pickle.dumps(Call(builtins.eval, f"open({str(tmp_path / 'ran')!r}, 'w').close()")))
    assert (tmp_path / "ran").exists()


def test_the_name_as_it_was_pickled(path, canary):
    assert line_of(path, b"cos\nsystem\n(S'" + canary.shell.encode() + b"'\ntR.") == refused(path, "os.system")
    assert line_of(path, b"(S'" + canary.shell.encode() + b"'\nios\nsystem\n.") == refused(path, "os.system")
    assert line_of(path, b"\x80\x04\x8c\x02a\n\x8c\x03b\x1bc\x93.") == refused(path, "a\\n.b\\x1bc")


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (getattr, (bytes, "fromhex")),
        (operator.attrgetter, ("x",)),
        (np.load, ("x",)),
        (pickle.loads, (b"N.",)),
        (__import__, ("os",)),
        (bytes, (3,)),
        (int, (3,)),
    ],
)
def test_whatever_else_is_importable_is_refused(path, function, args):
    kind, line = line_of(path, pickle.dumps((IMAGES, [Call(function, *args)])))
    assert (kind, line) == refused(path, f"{function.__module__}.{function.__qualname__}")


def test_a_call_inside_the_arguments_of_an_admitted_one(path, canary):
    reconstruct = np.array([True]).__reduce__()[0]
    inner = Call(reconstruct, np.ndarray, (0,), Call(builtins.eval, canary.python))
    assert line_of(path, pickle.dumps((IMAGES, inner))) == refused(path, "builtins.eval")


def test_an_array_of_objects_is_refused(path, canary):
    objects = np.array([Call(builtins.eval, canary.python)], dtype=object)
    assert line_of(path, pickle.dumps((IMAGES, objects))) == refused(path, "builtins.eval")
    plain = pickle.dumps((np.array(IMAGES, dtype=object), SAME))
    assert line_of(path, plain) == refused(path, "a numpy array or scalar of another type")


NUMPY = b"cnumpy.core.multiarray\n_reconstruct\n"
ANOTHER = "a numpy array or scalar of another type"


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (NUMPY + b"}S'x'\nI1\nsb", "a changed _reconstruct"),  # BUILD on what find_class gave
        (NUMPY + b"(N}S'__call__'\nI1\nstb", "a changed _reconstruct"),  # BUILD with slots
        (b"cnumpy\nndarray\n(tR}S'__class__'\nI1\nsb", ANOTHER),  # BUILD on an array, with a dict
        (
            NUMPY + b"(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I9\ntNI0\nS'\\x01'\ntb",
            ANOTHER,
        ),  # nine items said, one there
        (b"cnumpy\nndarray\n", ANOTHER),
        (NUMPY, ANOTHER),
        (b"ccodecs\nencode\n", "codecs.encode"),
        (b"c_codecs\nencode\n(V6f73\nVhex\ntR", "a call of _codecs.encode"),
        (b"c_codecs\nencode\n(Vx\ntR", "a call of _codecs.encode"),
        (b"c_codecs\nencode\n(I1\nVlatin1\ntR", "a call of _codecs.encode"),
        (b"Psomething\n", "a persistent id"),
        (b"cnumpy\ndtype.__reduce__\n", "numpy.dtype.__reduce__"),
    ],
)
def test_tricks_with_what_is_admitted(path, flags, what):
    images = b"(lS'a'\naS'b'\na"
    assert line_of(path, b"(" + images + flags + b"t.") == refused(path, what)


def test_extension_codes_are_looked_up_like_names(path):
    # EXT1 takes a name from copyreg's registry; an unregistered code is a damaged file
    assert line_of(path, b"\x80\x02\x82\x01.") == damaged(path, "it is not a whole pickle")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ((IMAGES, [1, 0]), "an item of type int"),
        ((IMAGES, [None, True]), "an item of type NoneType"),
        ((IMAGES, ["True", True]), "an item of type str"),
        ((["a", *IMAGES[1:]], SAME), "an item of type str"),
        (([bytearray(b"a"), *IMAGES[1:]], SAME), "an item of type bytearray"),
        (([[], *IMAGES[1:]], SAME), "an item of type list"),
        ((dict(enumerate(IMAGES)), SAME), "an item of type dict"),
        ((IMAGES, np.array([1, 0])), ANOTHER),
        ((IMAGES, np.array([[True], [False]])), ANOTHER),
        ((IMAGES, [np.int64(1), True]), ANOTHER),
        ((IMAGES, np.array([1, 0], np.uint8)), ANOTHER),
        (([np.zeros((2, 2), np.uint8), *IMAGES[1:]], SAME), ANOTHER),
        (([np.zeros(2, np.float32), *IMAGES[1:]], SAME), ANOTHER),
        ((IMAGES, np.array([2, 0], np.uint8).view(np.bool_)), ANOTHER),
    ],
)
def test_other_types_are_refused(path, content, what):
    # before protocol 5 a bytearray is a call of its type
    assert line_of(path, pickle.dumps(content, protocol=5)) == refused(path, what)


def damaged(path, what):
    return DataError, f"{path} is not an InsightFace .bin: {what}; download or write it again"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_truncated_file_is_damaged_wherever_it_ends(path, protocol):
    whole = pickle.dumps((IMAGES, SAME), protocol=protocol)
    for length in range(len(whole)):
        assert line_of(path, whole[:length]) == damaged(path, "it is not a whole pickle")


@pytest.mark.parametrize(
    "data",
    [
        b"not a pickle",
        b"\x80\x63.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",  # a byte string of 4 exabytes
        b"0.",
        b"(]]d.",  # an unhashable key
        b"N}b.",
        b"c_codecs\nencode\n(V\\u1234\nVlatin1\ntR.",
        b"c_codecs\nencode\n)\x81.",  # NEWOBJ on what is no class
    ],
)
def test_a_damaged_pickle(path, data):
    assert line_of(path, data) == damaged(path, "it is not a whole pickle")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"a": 1}, "expected a list of images and a list of booleans, found an item of type dict"),
        ((IMAGES, SAME, []), "expected a list of images and a list of booleans, found an item of type tuple"),
        ((IMAGES, [True]), "it has 4 images for 1 booleans, expected twice as many"),
    ],
)
def test_another_form(path, content, what):
    assert line_of(path, pickle.dumps(content)) == damaged(path, what)


def test_no_pairs(path):
    message = f"{path} holds no pairs; check that it is the whole file"
    assert line_of(path, pickle.dumps(([], []))) == (DataError, message)


def test_it_needs_no_folder(path, tmp_path):
    message = f"{path} holds its images itself; leave out --images"
    assert line_of(path, pickle.dumps((IMAGES, SAME)), tmp_path) == (OptionError, message)


def test_nothing_is_imported(path):
    sys.modules.pop("this", None)  # importing it prints
    assert line_of(path, b"cthis\ns\n.") == refused(path, "this.s")
    assert "this" not in sys.modules
