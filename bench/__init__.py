"""KDNA measured beside its peers: same data, same run, taking turns. `python -m bench --help`."""
