"""A model's files, looked at before any is loaded: a folder may be damaged, hostile or not what is meant."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, final

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils.hub import cached_file

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.transformers.settings import TransformersConfig

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER = "tokenizer.json"
MAX_JSON_BYTES = 16_000_000
"""The largest file of settings that is read: an index of thousands of shards takes some million bytes."""
MAX_TOKENIZER_BYTES = 48_000_000
"""The largest `tokenizer.json`: one of 262,144 tokens takes 33 million bytes."""
MAX_LAYERS = 10_000
LAYER_SETTINGS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ARGUMENTS = ("cache_dir", "force_download", "proxies", "token")
MAX_PATH = 4096


@final
@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files lie: a folder, or a name on the hub, whose files are fetched when they are asked for."""

    place: str
    name: str
    """What errors call the member."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """How the hub is asked, and `subfolder`."""

    @classmethod
    def of(cls, config: TransformersConfig, name: str) -> Checkpoint:
        """The checkpoint that a member's settings name.

        Raises:
            MemberError: Nothing that could be one: a file, an empty folder, another format.
        """
        arguments = {key: config.model_kwargs[key] for key in HUB_ARGUMENTS if key in config.model_kwargs}
        arguments |= {"revision": config.revision or "main", "local_files_only": config.local_files_only}
        found = cls(config.model, name, arguments | {"subfolder": config.model_kwargs.get("subfolder", "")})
        found._check_place()
        found = replace(found, place=_expand(found.place))
        if found.folder.is_dir():
            found._check_folder()
        return found

    @property
    def folder(self) -> Path:
        """The folder, if it is one."""
        return Path(self.place, self.arguments.get("subfolder") or "")

    def at(self, place: str) -> Checkpoint:
        """Another place, asked in the same way: an adapter's base model, or a tokenizer's.

        Raises:
            MemberError: A path where there is no folder.
        """
        if place == self.place:
            return replace(self, arguments={**self.arguments, "subfolder": ""})
        found = Checkpoint(place, self.name, {**self.arguments, "subfolder": "", "revision": "main"})
        found._check_place()
        return found

    def find(self, file: str) -> Path | None:
        """A file of it, None where it has none of that name.

        Raises:
            OSError: The hub cannot be reached, or has no such model.
        """
        found = cached_file(self.place, file, _raise_exceptions_for_missing_entries=False, **self.arguments)
        return None if found is None else Path(found)

    def read_json(self, file: str, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any] | None:
        """A file of settings, None where there is none of that name.

        Raises:
            MemberError: The file is too large, is no JSON, or holds something other than an object.
            OSError: It cannot be read.
        """
        path = self.find(file)
        if path is None:
            return None
        if (size := path.stat().st_size) > max_bytes:
            self.refuse(f"{file} has {size:,} bytes, more than any such file: fetch the model anew")
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise MemberError(self.say(f"{file} is not valid JSON ({error}): fetch the model anew")) from error
        if not isinstance(values, dict):
            self.refuse(f"{file} must hold a JSON object; it holds {quote(values)}: fetch the model anew")
        return values

    def check_config(self, *, trust_remote_code: bool) -> None:
        """Refuse a `config.json` of which nothing could be made, before transformers makes lists as long as it says.

        Raises:
            MemberError: It is not there, is damaged, or names an unknown architecture or absurd numbers.
            OSError: The hub cannot be reached.
        """
        values = self.read_json(CONFIG)
        if values is None and self.folder.is_dir():
            self.refuse(f"there is no {CONFIG}: give the folder that has the model's config.json in it")
        if values is None:
            self.refuse(
                f"there is no such folder, and no {CONFIG} of that name on the hub or, where it is not to be asked "
                "(HF_HUB_OFFLINE, local_files_only), among what was fetched before: give a folder or another name"
            )
        for key, number in _find_layers(values):
            if not 0 <= number <= MAX_LAYERS:
                self.refuse(f"{CONFIG} says {key}={quote(number)}, where 0 to {MAX_LAYERS:,} make sense: correct it")
        model_type = values.get("model_type")
        if (isinstance(model_type, str) and model_type in CONFIG_MAPPING) or trust_remote_code:
            return
        if values.get("auto_map"):
            self.refuse(
                f"its architecture {quote(model_type)} comes as code of its own (auto_map), which is not run unasked: "
                "read that code, and if you trust it say trust_remote_code=True"
            )
        self.refuse(
            f"{CONFIG} names the architecture model_type={quote(model_type)}, which this version of transformers does "
            "not have: pip install --upgrade transformers, or take a model of another architecture"
        )

    def check_weights(self, *, reads_pickles: bool) -> None:
        """Refuse a folder without weights that are read.

        Raises:
            MemberError: It says how to convert those in pickles.
        """
        if not self.folder.is_dir():
            return
        _, suffixes = self._list()
        if ".safetensors" in suffixes or reads_pickles:
            return
        if ".gguf" in suffixes:
            self.refuse(_GGUF)
        if suffixes & set(PICKLES):
            self.refuse(
                "its weights are pickles, which may run any code and are not read; wanted: *.safetensors. If you trust "
                'them, convert them once: python -c "from transformers import AutoModelForCausalLM as M; '
                f"M.from_pretrained('{self.place}', use_safetensors=False).save_pretrained('{self.place}')\""
            )
        self.refuse("there are no weights in it, no *.safetensors: fetch the whole model")

    def say(self, problem: str) -> str:
        """A problem, with the member and its place before it."""
        return f"member {quote(self.name)} cannot be loaded from {quote(self.place)}: {problem}"

    def refuse(self, problem: str) -> NoReturn:
        """Raises `MemberError`."""
        raise MemberError(self.say(problem))

    def _check_place(self) -> None:
        """Refuse what is plainly meant as a path and is not there; anything else may be a name on the hub."""
        if not self.place or "\0" in self.place or len(self.place) > MAX_PATH:
            self.refuse(
                f"a path or name has 1 to {MAX_PATH:,} characters, none of them NUL; this has {len(self.place):,}"
            )
        path = Path(_expand(self.place))
        try:
            is_folder, is_there = path.is_dir(), path.exists()
        except OSError as error:
            raise MemberError(self.say(f"{error.strerror}: give a model's folder or its hub name")) from error
        if is_there and not is_folder:
            self.refuse(
                _GGUF_FILE
                if _is_gguf(path)
                else "this is a file: give the folder that has the model's config.json in it"
            )
        if not is_there and (self.place.startswith((".", "/", "~")) or self.place.count("/") > 1):
            raise MemberError(
                f"member {quote(self.name)}: there is no folder {quote(self.place)}: give a model's folder or its hub "
                "name"
            )

    def _list(self) -> tuple[set[str], set[str]]:
        """The names of the folder's files, and their suffixes."""
        try:
            names = {path.name for path in self.folder.iterdir()}
        except OSError as error:
            raise MemberError(
                self.say(f"the folder cannot be read ({error.strerror}): let this user read it, or give another one")
            ) from error
        return names, {Path(name).suffix.lower() for name in names}

    def _check_folder(self) -> None:
        names, suffixes = self._list()
        if not names:
            self.refuse("the folder is empty: give the folder that has the model's config.json in it")
        if ".gguf" in suffixes and not names & {CONFIG, ADAPTER_CONFIG}:
            self.refuse(_GGUF)
        if not names & {CONFIG, ADAPTER_CONFIG}:
            self.refuse(f"there is no {CONFIG}: give the folder that has the model's config.json in it")


_GGUF = "its weights are GGUF, which transformers does not run: give one of its *.gguf files as the model"
_GGUF_FILE = "this is a GGUF file, which transformers does not run: write kind='gguf', or end its name in .gguf"


def _expand(place: str) -> str:
    """A path in somebody's home folder, `~/models/one`, in full; anything else as it is."""
    return os.path.expanduser(place) if place.startswith("~") else place  # noqa: PTH111 (pathlib's raises)


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return path.suffix.lower() == ".gguf"


def _find_layers(values: dict[str, Any]) -> list[tuple[str, int]]:
    """How many layers a `config.json` says, also of the parts of a composed model."""
    parts = [values, *(part for part in values.values() if isinstance(part, dict))]
    return [(key, part[key]) for part in parts for key in LAYER_SETTINGS if isinstance(part.get(key), int)]
