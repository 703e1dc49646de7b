"""The page at `/`: a chat in the browser that shows who decided each token. Nothing is fetched from elsewhere."""

from deepen_llm.server.page.routes import make_page_router

__all__ = ["make_page_router"]
