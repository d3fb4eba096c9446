"""`python -m iapo`."""

from iapo.cli.main import main

main()
