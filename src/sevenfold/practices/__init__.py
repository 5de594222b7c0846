"""Hold the seven practices: seven verbs with seven settings, none knowing another."""
