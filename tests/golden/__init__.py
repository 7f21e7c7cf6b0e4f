"""Golden runs: what headprobe prints and writes, compared with what is stored in ``data/``.

Only public interfaces are used: the command line and the files of a run folder. Whatever is moved
or renamed inside, these runs must stay equal.

    python -m tests.golden                   compare all cases
    python -m tests.golden demo judge        compare some
    python -m tests.golden --write           store new golden data, and say what differs
    python -m tests.golden --write screens   store only what is printed; numbers must be equal
    python -m tests.golden --write numbers   store only what is measured

``data/CASE.txt`` holds what the commands print at 80 columns. ``data/CASE.numbers.json`` holds the
tables and arrays in a compact form: small tables whole, larger tables and arrays as weighted sums
of blocks; they are compared with a tolerance, on any machine. ``data/CASE.hashes.json`` holds
hashes of each file, column and array; they are compared only where processor and versions are those
of the machine that made them, which the file names.
"""
