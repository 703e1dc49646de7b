"""LangChain's own unit suite for chat models, on the starter models."""

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests

from deepen_llm import Ensemble
from langchain_deepen import ChatDeepen


class TestChatDeepenUnit(ChatModelUnitTests):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def starter(cls):
        """The starter models, loaded once: the suite makes many chat models."""
        with Ensemble.starter() as cls.ensemble:
            yield

    @property
    def chat_model_class(self):
        return ChatDeepen

    @property
    def chat_model_params(self):
        return {"ensemble": self.ensemble}

    @property
    def standard_chat_model_params(self):
        """All but `api_key`: models that run here have none, and a setting that does nothing is refused."""
        return {name: value for name, value in super().standard_chat_model_params.items() if name != "api_key"}

    @property
    def has_tool_calling(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def has_structured_output(self):
        return True
