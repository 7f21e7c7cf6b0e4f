"""``python -m headprobe``."""

from headprobe.cli.main import main

if __name__ == "__main__":
    main()
