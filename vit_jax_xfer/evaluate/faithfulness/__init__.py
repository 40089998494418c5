"""Whether a map shows what an answer rests on: images perturbed by it, and objects found by it."""
