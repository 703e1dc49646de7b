"""`python -m deepen_llm` is the command `deepen`."""

from deepen_llm.cli import main

if __name__ == "__main__":
    main()
