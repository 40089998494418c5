"""Networks that say where things are: an encoder that gives maps, and heads that read them."""
