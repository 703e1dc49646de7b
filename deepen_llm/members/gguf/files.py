"""The files of a model in GGUF, looked at before llama.cpp is: one, or several parts that llama.cpp puts together."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.gguf.header import Header, TensorInfo

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
NUM_TYPES = 43
"""Number formats that llama.cpp may be asked of: it ends the process on others."""
NUM_SAMPLES, SAMPLE_BYTES = 256, 4096
"""What of a file tells it from another of the same size."""
MAX_COUNTS = {
    "block_count": 512,
    "context_length": 1 << 30,
    "embedding_length": 1 << 24,
    "attention.head_count": 1 << 16,
    "attention.head_count_kv": 1 << 16,
    "attention.key_length": 1 << 16,
    "attention.value_length": 1 << 16,
}
"""Settings that are counts, or lists of a count for every layer, and the most that each may be."""
EMBEDDINGS = "token_embd.weight"


@final
@dataclass(frozen=True, slots=True)
class GGUFFiles:
    """A model's parts, in order; mostly one."""

    headers: tuple[Header, ...]

    @classmethod
    def find(cls, place: str, name: str, library: Any) -> GGUFFiles:
        """Read the headers of the file that a member names, and of those that belong to it.

        Args:
            place: The path.
            name: What errors call the member.
            library: llama.cpp, which knows the sizes of number formats.

        Raises:
            MemberError: No such file, a folder, a part that is not there or not the first, no GGUF file, or a damaged
                one.
        """
        path = Path(place).expanduser()
        try:
            headers = tuple(Header.read(part) for part in _find_parts(path))
            for header in headers:
                _check_tensors(header, library)
            _check_settings(headers)
        except OSError as error:
            raise MemberError(_say(name, place, f"{error.strerror or error}: give a file that can be read")) from error
        except ValueError as error:
            raise MemberError(_say(name, place, str(error))) from error
        return cls(headers)

    @property
    def path(self) -> Path:
        """The first part, which llama.cpp is given."""
        return self.headers[0].path

    @property
    def header(self) -> Header:
        """Of the first part, which has the settings."""
        return self.headers[0]

    @property
    def embeddings(self) -> tuple[Path, TensorInfo] | None:
        """Where the tokens' embeddings lie; None where there are none."""
        found = ((header.path, header.tensors[EMBEDDINGS]) for header in self.headers if EMBEDDINGS in header.tensors)
        return next(found, None)

    @property
    def fingerprint(self) -> str:
        """The same for the same files: of their sizes, and of pieces from everywhere in them."""
        digest = hashlib.sha256()
        for header in self.headers:
            digest.update(b"%d" % header.num_bytes)
            with header.path.open("rb") as file:
                for place in range(NUM_SAMPLES):
                    file.seek(header.num_bytes * place // NUM_SAMPLES)
                    digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()[:32]


def _say(name: str, place: str, problem: str) -> str:
    return f"member {quote(name)} cannot be loaded from {quote(place)}: {problem}"


def _refuse(problem: str) -> NoReturn:
    raise ValueError(problem)


def _find_parts(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(one.name for one in path.glob("*.gguf"))
        within = f"; it has {', '.join(map(repr, found[:5]))}" if found else ""
        _refuse(f"this is a folder{within}: give one .gguf file")
    if not path.exists():
        _refuse("there is no such file: give the path of a .gguf file")
    part = PART.search(path.name)
    if part is None:
        return [path]
    number, num_parts = map(int, part.groups())
    if number != 1:
        _refuse(f"this is part {number} of {num_parts}: give the first one")
    parts = [
        path.with_name(PART.sub(f"-{one:05}-of-{num_parts:05}.gguf", path.name)) for one in range(1, num_parts + 1)
    ]
    if missing := [one.name for one in parts if not one.exists()]:
        _refuse(f"its part {missing[0]!r} is not there: put all {num_parts} parts into one folder")
    return parts


def _check_tensors(header: Header, library: Any) -> None:
    """That every tensor is of a known format and lies within the file, none over another."""
    end = 0
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].offset):
        if not 0 <= tensor.type < NUM_TYPES or not (block := library.ggml_get_type_traits(tensor.type)[0]).blck_size:
            _refuse(
                f"{header.path.name}: tensor {quote(name)} is of the number format {tensor.type}, which this llama.cpp "
                "does not have: take another quantization of the model"
            )
        if tensor.shape[0] % block.blck_size:
            _refuse(
                f"{header.path.name}: tensor {quote(name)} of shape {tensor.shape} has no whole blocks: fetch it anew"
            )
        if tensor.offset < end:
            _refuse(f"{header.path.name}: tensor {quote(name)} lies over the one before it: fetch it anew")
        end = tensor.offset + math.prod(tensor.shape) // block.blck_size * block.type_size
        if end > header.num_bytes:
            _refuse(
                f"{header.path.name} is cut short: tensor {quote(name)} ends at byte {end:,}, and the file has "
                f"{header.num_bytes:,}: fetch it anew"
            )


def _check_settings(headers: tuple[Header, ...]) -> None:
    """What llama.cpp ends the process over, or takes absurd memory for."""
    header = headers[0]
    num_parts = header.settings.get("split.count", 1)
    if isinstance(num_parts, int) and num_parts > 1 and num_parts != len(headers):
        _refuse(f"{header.path.name} is a part of {num_parts}: give it the name by which it was published")
    if not header.architecture:
        _refuse(f"{header.path.name} does not say its architecture (general.architecture): convert the model anew")
    for name, most in MAX_COUNTS.items():
        value = header.number(name, 0)
        for count in value if isinstance(value, tuple) else (value,):
            if type(count) is not int or not 0 <= count <= most:
                _refuse(f"{header.path.name} says {name}={quote(count)}, where 0 to {most:,} can be: fetch it anew")
    for name, value in header.settings.items():
        if isinstance(value, float) and not (math.isfinite(value) and (value >= 0 or not name.endswith("epsilon"))):
            _refuse(f"{header.path.name} says {name}={value}, which cannot be: fetch it anew")
