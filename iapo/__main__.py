"""`python -m iapo`."""

from iapo.cli.main import main
from iapo.experiments.parent import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    main()
