"""From an initial DSM and a model to a refined DSM."""
