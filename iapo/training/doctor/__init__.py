"""`iapo doctor`: what would go wrong in a training, found before hours are spent."""
