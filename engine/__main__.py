"""`python -m engine`: the same as `walflow`."""

from engine.cli import main

main()
