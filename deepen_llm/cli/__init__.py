"""The command `deepen`. One file a command; torch and transformers are imported inside the commands that need them."""

from deepen_llm.cli.app import main

__all__ = ["main"]
