"""The connections to a Redis server: store URL, clients, errors, retries, the cache that it invalidates."""
