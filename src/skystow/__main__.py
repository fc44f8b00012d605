"""`python -m skystow`."""

from skystow.cli import main

if __name__ == "__main__":
    main()
