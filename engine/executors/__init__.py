"""What carries out effects: SQL steps as the submitting role, and the completions that the engine itself decides."""
