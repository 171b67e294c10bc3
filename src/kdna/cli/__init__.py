"""The command line: parse, one call, render. One file per command group; no logic."""
