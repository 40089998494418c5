"""All that is open about one GPU, measured in one run: python -m benchmarks.card"""
