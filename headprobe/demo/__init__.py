"""How the bundled demo model and the bundled probe sets were made."""
