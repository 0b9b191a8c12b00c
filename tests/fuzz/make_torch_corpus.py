# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_torch_file and fuzz_pickle: state dicts as torch.save pickles them, a few
hundred bytes each. Run: python3 tests/fuzz/make_torch_corpus.py   (standard library only)

torch's names are stood in for by classes and functions that only pickle as theirs would.
"""
import collections
import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile

HERE = pathlib.Path(__file__).parent / "corpus"

torch = types.ModuleType("torch")
torch._utils = types.ModuleType("torch._utils")
sys.modules.update({"torch": torch, "torch._utils": torch._utils})
for storage in ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage"):
    setattr(torch, storage, type(storage, (), {"__module__": "torch"}))
for function in ("_rebuild_tensor_v2", "_rebuild_parameter"):
    made = types.FunctionType((lambda *_: None).__code__, {}, function)
    made.__module__, made.__qualname__ = "torch._utils", function
    setattr(torch._utils, function, made)


class Storage:
    def __init__(self, kind, key, n):
        self.id = ("storage", getattr(torch, kind), key, "cpu", n)


class Tensor:
    def __init__(self, storage, offset, size, stride):
        self.arguments = (storage, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return torch._utils._rebuild_parameter, (self.tensor, True, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        return item.id if isinstance(item, Storage) else None


def pickled(root, protocol):
    out = io.BytesIO()
    Pickler(out, protocol).dump(root)
    return out.getvalue()


def state_dict():
    floats, halves = Storage("FloatStorage", "0", 12), Storage("HalfStorage", "1", 6)
    tied = Tensor(floats, 0, (4, 3), (3, 1))
    tensors = collections.OrderedDict(
        weight=tied, tied=tied, transposed=Tensor(floats, 0, (3, 4), (1, 3)),
        slice=Tensor(floats, 3, (2, 3), (3, 1)), bias=Parameter(Tensor(halves, 0, (6,), (1,))),
        bf16=Tensor(Storage("BFloat16Storage", "2", 2), 1, (), ()),
        ids=Tensor(Storage("LongStorage", "3", 1), 0, (1,), (1,)))
    tensors._metadata = collections.OrderedDict({"": {"version": 1}})
    return tensors


def widen(directory):
    """Moves each entry's sizes and offset into a ZIP64 field."""
    out = b""
    while directory:
        n_name, n_extra, n_comment = struct.unpack_from("<HHH", directory, 28)
        packed, size, offset = *struct.unpack_from("<II", directory, 20), directory[42:46]
        field = struct.pack("<HHQQ", 1, 24, size, packed) + offset + bytes(4)
        head = bytearray(directory[:46])
        head[20:28], head[42:46] = b"\xff" * 8, b"\xff" * 4
        struct.pack_into("<HH", head, 30, len(field), 0)
        out += bytes(head) + directory[46:46 + n_name] + field
        directory = directory[46 + n_name + n_extra + n_comment:]
    return out


def archive(path, data, storages, zip64):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in [("data.pkl", data), ("byteorder", b"little")] + storages:
            info = zipfile.ZipInfo("archive/" + name)
            with file.open(info, "w", force_zip64=zip64) as entry:
                entry.write(content)
    raw = out.getvalue()
    if zip64:  # torch writes both forms of the end
        n, size, offset = struct.unpack("<10xHII2x", raw[-22:])
        raw = raw[:offset] + widen(raw[offset:-22])
        size, at = len(raw) - offset, len(raw)
        raw += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, offset)
        raw += struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
        raw += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, n, n, size, offset, 0)
    path.write_bytes(raw)


def main():
    files, pickles = HERE / "torch_file", HERE / "pickle"
    files.mkdir(parents=True, exist_ok=True)
    pickles.mkdir(parents=True, exist_ok=True)
    storages = [("data/0", struct.pack("<12f", *range(12))), ("data/1", bytes(12)),
                ("data/2", b"\x80\x3f\0\x40"), ("data/3", bytes(8))]
    plain = pickled(state_dict(), 2)
    nested = pickled({"epoch": 3, "lr": 1e-4, "best": None, "steps": [1, 70000, 2 ** 40, -1],
                      "state_dict": state_dict()}, 4)
    archive(files / "plain", plain, storages, zip64=True)
    archive(files / "nested", nested, storages, zip64=False)
    (pickles / "plain").write_bytes(plain)
    (pickles / "nested").write_bytes(nested)
    (pickles / "code").write_bytes(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.")
    loop = {}
    loop["state_dict"] = loop
    (pickles / "loop").write_bytes(pickled(loop, 2))


if __name__ == "__main__":
    main()
