"""`python -m runtime.cli`: the `garrison` command without its script."""

from runtime.cli.entry import main

main()
