"""`python -m iapo`."""

from iapo.cli import main

main()
