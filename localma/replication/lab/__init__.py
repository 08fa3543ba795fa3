"""What all experiments share: parts of long runs, results and their provenance, samples, verdicts."""
