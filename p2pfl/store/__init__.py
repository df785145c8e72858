"""The data directory: blobs, the SQLite journal, the lock, and their verification."""
