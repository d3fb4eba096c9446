"""What is done with whole data sets: check them, convert them, look at them, make synthetic ones."""
