"""One use case per function, shared by every front end: joins configuration, storage, repository and snapshots."""
