"""The exceptions of deepen_llm. Each is also the standard type that matches, so both `except` clauses work.

DeepenError
├── ConfigError (ValueError)              a setting or an argument that cannot be used
│   └── GrammarError                      a schema, regular expression or grammar that cannot be followed
├── PromptError (ValueError)              a prompt or a message list that cannot be run
│   └── ContextLengthError                a prompt that does not fit into a member's context
├── VocabularyError (ValueError)          a tokenizer that cannot be read as bytes, members with too few common tokens
├── MemberError (RuntimeError)            a member that cannot be loaded or that failed while running
│   └── MemberTimeoutError (TimeoutError) a member that did not answer in time
├── NumericalError (ArithmeticError)      NaN or infinity where a number was needed
├── EngineError (RuntimeError)            a step that failed for a reason of the library's own
├── CacheError (OSError)                  a cache file that cannot be read or written
├── ClosedError (RuntimeError)            use after close
└── MissingDependencyError (ImportError)  an optional package that is not installed

Every message says what must hold, what came and what to do.
"""


class DeepenError(Exception):
    """Root of every error that this library raises on purpose."""


class ConfigError(DeepenError, ValueError):
    """A setting or an argument that cannot be used.

    `problems` are those of one construction of a settings class, each with the setting's name (empty for the class as a
    whole) and what is wrong with it, for those who call settings by other names.
    """

    problems: tuple[tuple[str, str], ...] = ()


class GrammarError(ConfigError):
    """A JSON schema, regular expression or grammar that decoding cannot follow; the message names the part."""


class PromptError(DeepenError, ValueError):
    """A prompt or a message list that cannot be run."""


class ContextLengthError(PromptError):
    """A prompt that does not fit into a member's context."""


class VocabularyError(DeepenError, ValueError):
    """A tokenizer that cannot be read as bytes, or members whose vocabularies share too little."""


class MemberError(DeepenError, RuntimeError):
    """A member that cannot be loaded, or that failed while running."""


class MemberTimeoutError(MemberError, TimeoutError):
    """A member that did not answer in time."""


class NumericalError(DeepenError, ArithmeticError):
    """NaN or infinity where a number was needed."""


class EngineError(DeepenError, RuntimeError):
    """A step that failed for a reason of the library's own, which is its cause: a fault to report."""


class CacheError(DeepenError, OSError):
    """A cache file that cannot be read or written."""


class ClosedError(DeepenError, RuntimeError):
    """An ensemble was used after `close()`."""


class MissingDependencyError(DeepenError, ImportError):
    """An optional package that is not installed."""
