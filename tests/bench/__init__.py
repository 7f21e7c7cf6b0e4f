"""How long measuring takes, against a plain forward pass and against doing it by hand."""
