"""What many tests stand on: no network, and ensembles that need no checkpoint."""

from __future__ import annotations

import asyncio
import logging
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DEEPEN_CACHE"] = "off"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: a second thread costs more than it brings

import pytest

from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.ensemble import Ensemble
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

TOKENIZERS = {
    "bpe": toy_tokenizers.byte_level_bpe,
    "sentencepiece": toy_tokenizers.sentencepiece_bpe,
    "unigram": toy_tokenizers.unigram,
}


LOGGERS = ("deepen_llm", "deepen_llm.evaluation.harness", "lm_eval")


@pytest.fixture(autouse=True)
def _restore_logging():
    """The command line sets up loggers for its whole process; other tests must not notice."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def vocabularies() -> dict[str, Vocabulary]:
    """One vocabulary of every kind, by the names in `TOKENIZERS`."""
    return {kind: Vocabulary.from_tokenizer(make(), name=kind) for kind, make in TOKENIZERS.items()}


@pytest.fixture
def make_ensemble(vocabularies):
    """Build an ensemble of scripted members of these kinds that know these texts; closed after the test.

    The main model outweighs the others unless the test says otherwise: their toy vocabularies cut text differently,
    and what fusion makes of that is not what these tests are about.
    """
    made = []

    def make(texts, kinds=("bpe", "sentencepiece"), texts_of=None, context_length=512, **settings):
        members = [
            ScriptedMember(
                vocabularies[kind], (texts_of or {}).get(kind, texts), context_length=context_length, seed=at
            )
            for at, kind in enumerate(kinds)
        ]
        if len(kinds) > 1:
            settings.setdefault("weights", (0.7, *[0.3 / (len(kinds) - 1)] * (len(kinds) - 1)))
        config = EnsembleConfig(members=tuple(MemberConfig(model=member.name) for member in members), **settings)
        made.append(Ensemble(members, config))
        return made[-1]

    yield make
    for ensemble in made:
        ensemble.close()


@pytest.fixture
def event_loop_of_its_own():
    """LlamaIndex makes a loop for the thread where there is none, to count a chat's tokens, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
