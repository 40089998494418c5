"""What commands share: their flags and the errors of these, and the flag --config."""
