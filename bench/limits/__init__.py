"""What the machine could do, and how close KDNA comes to it, stage by stage. `python -m bench.limits --help`."""
