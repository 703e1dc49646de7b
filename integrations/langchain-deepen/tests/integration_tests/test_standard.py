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
        return {"ensemble": self.ensemble, "max_tokens": 72}

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

    # What follows asks for something that models of 1.1 million parameters do not know; test_tools.py shows on the same
    # models that the calls come, parse and go round. Six wordings of the system message were tried for each.

    @pytest.mark.xfail(reason="asks for the argument 3; the starter models call magic_function with 616 (or 113)")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_tool_calling(self, model):
        super().test_tool_calling(model)

    @pytest.mark.xfail(reason="asks for the argument 3; the starter models call magic_function with 616 (or 113)")
    async def test_tool_calling_async(self, model):
        await super().test_tool_calling_async(model)

    @pytest.mark.xfail(reason="asks the models to decide for a call; the starter models, never taught to, say '1'")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_agent_loop(self, model):
        super().test_agent_loop(model)

    @pytest.mark.xfail(reason="asks for a name in Chinese; the starter models call the customer after a capital")
    def test_unicode_tool_call_integration(self, model):
        super().test_unicode_tool_call_integration(model)
