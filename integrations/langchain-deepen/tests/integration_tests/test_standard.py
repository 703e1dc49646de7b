"""LangChain's own integration suite for chat models, on the starter models, offline."""

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from deepen_llm.starter import model_paths
from langchain_deepen import ChatDeepen


class TestChatDeepenIntegration(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def starter(self, ensemble, monkeypatch):
        """The starter models, loaded once, in whose folder the name of a member is the path of its model."""
        type(self).ensemble = ensemble
        monkeypatch.chdir(model_paths()[0].parent)

    @property
    def chat_model_class(self):
        return ChatDeepen

    @property
    def chat_model_params(self):
        return {"ensemble": self.ensemble, "max_tokens": 48}

    @property
    def has_tool_calling(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def has_structured_output(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @property
    def returns_usage_metadata(self):
        return True

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return "qwen2"
