"""Trees of files at a moment.

A *node* is one entry, a *tree* one folder's nodes, a *snapshot* a root tree with its manifest.
"""
