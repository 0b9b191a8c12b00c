# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and exports whose weights are a seed: what stands in a repository is weights.json, and whoever wants the weights computes them.

  python tests/golden/seeded.py FOLDER TARGET     write the checkpoint of FOLDER/weights.json into TARGET

weights.json: {"seed", "files": [{"name", "dtype": "F32" | "F16" | "BF16", "sha256", "tensors": [{"name", "shape", "scale",
"mean", "row", "row_scale", "centred", "at"}]}]}, tensors in the order of the file, the members from "mean" on only where they
are not 0, none, none, false, none. A safetensors file is written as the library writes it. Of any other there is NAME.holes,
its bytes without the weights, each of which begins at byte "at" of the file. tests/convert/support_seeded.c writes the same
files byte by byte, which "sha256" proves.

  h = FNV-1a (64 bits) of the text "SEED/NAME";  element i has x = splitmix64's finalizer of h + (i + 1) * GAMMA mod 2^64,
  z = the sum of x's four 16-bit parts - 131070     nearly normal, and an integer
  centred: z = n_columns * z - the sum of its row's z, and the scale is for that
  value = mean + scale * z in double (row_scale instead of scale in row `row`), rounded to f32, then to dtype
"""
import argparse
import hashlib
import json
import pathlib
import shutil

import numpy

GAMMA = 0x9E3779B97F4A7C15
STD = ((65536 ** 2 - 1) / 3) ** 0.5  # of z
DTYPES = {"F32": "<f4", "F16": "<f2"}


def noise(seed, name, shape):
    """z as int64."""
    state = 0xCBF29CE484222325
    for byte in f"{seed}/{name}".encode():
        state = (state ^ byte) * 0x100000001B3 % 2 ** 64
    x = numpy.arange(1, numpy.prod(shape, dtype=int) + 1, dtype=numpy.uint64)
    x *= numpy.uint64(GAMMA)
    x += numpy.uint64(state)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> numpy.uint64(shift)
        x *= numpy.uint64(factor)
    x ^= x >> numpy.uint64(31)
    parts = x.view(numpy.uint16).reshape(-1, 4)
    return (parts.sum(1, dtype=numpy.int64) - 131070).reshape(shape)


def values(seed, tensor):
    """The f32 values of one row of weights.json."""
    z = noise(seed, tensor["name"], tensor["shape"])
    if tensor.get("centred"):
        z = z * z.shape[1] - z.sum(1, keepdims=True)
    made = tensor.get("mean", 0.0) + tensor["scale"] * z
    if "row" in tensor:
        made[tensor["row"]] = tensor.get("mean", 0.0) + tensor["row_scale"] * z[tensor["row"]]
    return made.astype(numpy.float32)


class Recipe:
    """Collects how each tensor is drawn."""

    def __init__(self, seed):
        self.seed, self.tensors, self.redrawn = seed, {}, []

    def draw(self, name, shape, gain, mean=0.0, centred=False, row=None, row_gain=None):
        """f32 values of mean `mean` and standard deviation `gain`; of row `row`, `row_gain`."""
        tensor = {"name": name, "shape": list(shape), "scale": gain / STD / (shape[-1] if centred else 1)}
        if mean:
            tensor["mean"] = mean
        if row is not None:
            tensor["row"], tensor["row_scale"] = row, row_gain / STD
        if centred:
            tensor["centred"] = True
        self.tensors[name] = tensor
        return values(self.seed, tensor)

    def redraw(self, path, spans, dtype):
        """Writes other weights into a file, of the spread of those at [(name, shape, at)]."""
        data = bytearray(path.read_bytes())
        for name, shape, at in spans:
            there = numpy.frombuffer(data, DTYPES[dtype], numpy.prod(shape), at)
            drawn = stored(self.draw(name, shape, round(float(there.std(dtype=float)), 4)), dtype)
            self.tensors[name]["at"] = at
            data[at:at + len(drawn)] = drawn
        path.write_bytes(data)
        self.redrawn.append((path.name, dtype, [name for name, _, _ in spans]))

    def replace(self, folder):
        """Writes weights.json, and files of holes, in the place of the safetensors and redrawn files in `folder`, which must
        hold what was drawn."""
        files = []
        for name, dtype, names in self.redrawn:
            data, rest, end = (folder / name).read_bytes(), b"", 0
            tensors = sorted((self.tensors[tensor] for tensor in names), key=lambda tensor: tensor["at"])
            for tensor in tensors:
                rest += data[end:tensor["at"]]
                end = tensor["at"] + int(numpy.prod(tensor["shape"])) * numpy.dtype(DTYPES[dtype]).itemsize
            (folder / (name + ".holes")).write_bytes(rest + data[end:])
            (folder / name).unlink()
            files.append({"name": name, "dtype": dtype, "sha256": hashlib.sha256(data).hexdigest(), "tensors": tensors})
        for path in sorted(folder.glob("*.safetensors")):
            data = path.read_bytes()
            header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            header.pop("__metadata__")
            order = sorted(header, key=lambda name: header[name]["data_offsets"])
            [dtype] = {one["dtype"] for one in header.values()}
            files.append({"name": path.name, "dtype": dtype, "sha256": hashlib.sha256(data).hexdigest(),
                          "tensors": [self.tensors[name] for name in order]})
            path.unlink()
        lines = [json.dumps({**one, "tensors": []})[:-2] + "\n" +
                 ",\n".join(json.dumps(tensor, separators=(",", ":")) for tensor in one["tensors"]) + "]}" for one in files]
        (folder / "weights.json").write_text(
            f'{{"seed": {self.seed}, "files": [\n' + ",\n".join(lines) + "\n]}\n")


def stored(array, dtype):
    """The bytes of f32 values in a type of safetensors."""
    if dtype == "BF16":
        bits = array.view(numpy.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return array.astype(DTYPES[dtype]).tobytes()


def filled(holes, tensors, parts):
    """The bytes between the weights, and these where they belong."""
    whole, at = b"", 0
    for tensor, part in zip(tensors, parts):
        n_before = tensor["at"] - len(whole)
        whole += holes[at:at + n_before] + part
        at += n_before
    return whole + holes[at:]


def safetensors(dtype, tensors, parts):
    """As safetensors.torch.save_file() writes them."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor, part in zip(tensors, parts):
        header[tensor["name"]] = {"dtype": dtype, "shape": tensor["shape"], "data_offsets": [end, end + len(part)]}
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def restore(folder, target):
    """A checkpoint or export as it was before replace(), in the new folder `target`."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("weights.json", "*.holes"))
    recipe = json.loads((folder / "weights.json").read_text())
    for file in recipe["files"]:
        parts = [stored(values(recipe["seed"], tensor), file["dtype"]) for tensor in file["tensors"]]
        holes = folder / (file["name"] + ".holes")
        whole = (filled(holes.read_bytes(), file["tensors"], parts) if holes.exists()
                 else safetensors(file["dtype"], file["tensors"], parts))
        if hashlib.sha256(whole).hexdigest() != file["sha256"]:
            raise SystemExit(f"{folder}: {file['name']} has another SHA-256 than weights.json says")
        (target / file["name"]).write_bytes(whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    args = parser.parse_args()
    restore(args.folder, args.target)


if __name__ == "__main__":
    main()
