"""Keeping a repository well: which backups stay, and what is no longer needed.

A *policy* says how many backups of one source stay, a *verdict* what it says of one of them and why.
"""
