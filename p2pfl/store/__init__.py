"""What a node keeps on its disk: blobs, the journal, and the lock on the directory that holds both."""
