"""A Flower app that does no training, so that its rounds cost what Flower itself costs."""
