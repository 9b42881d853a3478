"""What is wrong with a data set before it is trained on or refined, in plain words."""
