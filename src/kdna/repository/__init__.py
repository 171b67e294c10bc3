"""Sealed, deduplicated blobs in a storage.

A *blob* is a run of bytes named by its keyed hash. Blobs are gathered into *frames*, compressed and sealed together;
frames into *packs*, the objects that travel. The *index* says which blob is in which frame of which pack. A *session*
is one client writing; its *token* is renamed at the end, and that rename is the commit. A *manifest* is the sealed
record of one backup."""
