"""The page at `/`: a chat in the browser that shows who decided each token. Nothing is fetched from elsewhere."""

from deepen_llm.server.page.routes import page_router

__all__ = ["page_router"]
