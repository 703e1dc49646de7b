"""How the bundled starter models were made: their text, their tokenizers and their training.

Run from a clone of the repository (`python -m recipe.train`); the package that is installed does not hold it.
"""
