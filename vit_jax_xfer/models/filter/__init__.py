"""FilterViT, DropoutViT (2410.22709): convolutions, and attention on the pixels that count."""
