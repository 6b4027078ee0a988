"""The operating system: files that are whole or not there, locks, processes, memory, clusters."""
