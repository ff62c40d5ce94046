"""May this address be mailed? The suppression list as a read API, followed from Kafka into a local RocksDB."""
