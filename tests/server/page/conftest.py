from tests.explain.conftest import Page, read_page

__all__ = ["Page", "read_page"]
