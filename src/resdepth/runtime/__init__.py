"""What all commands share: progress, signals, memory, files that appear whole."""
