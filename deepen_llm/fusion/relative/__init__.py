"""Fusion through the space of common tokens: DeePEn (arXiv 2404.12715, section 3)."""
