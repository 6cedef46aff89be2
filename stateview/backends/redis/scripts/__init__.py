"""The keys of a namespace on a Redis server, and the Lua scripts that read and write them."""
